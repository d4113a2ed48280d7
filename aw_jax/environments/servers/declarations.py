"""How the tools of a benchmark are declared, in short."""

from typing import Any


def compact(name: str, description: str, schema: dict[str, Any], read_only: bool) -> dict[str, Any]:
  """A tool as catalogues hold it: a sentence, and the types of its arguments."""
  properties = {key: {'enum': value['enum']} if 'enum' in value else {'type': _kind(value)}
                for key, value in schema.get('properties', {}).items()}
  return {'name': name, 'description': ' '.join(description.split()).split('. ')[0],
          'readOnly': read_only,
          'inputSchema': {'type': 'object', 'properties': properties,
                          'required': list(schema.get('required', ()))}}


def _kind(schema: dict[str, Any]) -> str:
  kind = schema.get('type', 'any')
  return {'dict': 'object', 'float': 'number', 'tuple': 'array'}.get(kind, kind)
