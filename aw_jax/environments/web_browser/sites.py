"""Serves the sites' files to the browser beside it, each under a host name of its own."""

import functools
import http.server
import threading


class _Handler(http.server.SimpleHTTPRequestHandler):
  """Files alone: no listing of folders, nothing written anywhere."""

  protocol_version = 'HTTP/1.1'
  extensions_map = {
      **http.server.SimpleHTTPRequestHandler.extensions_map,
      '.html': 'text/html; charset=utf-8', '.js': 'text/javascript; charset=utf-8'}

  def list_directory(self, path):
    self.send_error(404)

  def end_headers(self):
    self.send_header('Cache-Control', 'max-age=86400')
    super().end_headers()

  def send_header(self, keyword, value):
    if keyword not in ('Date', 'Last-Modified', 'Server'):
      super().send_header(keyword, value)

  def log_message(self, *arguments):
    pass


def serve(roots):
  """Begins to serve {host: folder}; returns the rules by which Chromium finds no other host."""
  rules = []
  for host, folder in roots.items():
    handler = functools.partial(_Handler, directory=folder)
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    rules.append(f'MAP {host} 127.0.0.1:{server.server_address[1]}')
  return ','.join((*rules, 'MAP * ~NOTFOUND'))
