"""Tool servers of the Model Context Protocol (aw_jax/environments/mcp.py)."""

from aw_jax.prompts.facts import Facts, Tool

_CUSTOMER, _PRODUCT = ('customer_id', 'integer'), ('product_id', 'integer')
_ORDER, _QUANTITY, _PAGE = ('order_id', 'integer'), ('quantity', 'integer'), ('page?', 'integer')
_REPOSITORY = ('repo_path', 'string')
_CONTEXT = ('context_lines?', 'integer')

_SHOP = (
    Tool('find_customer', 'Find a customer by full name.', (('name', 'string'),)),
    Tool('get_customer', 'Get a customer.', (_CUSTOMER,)),
    Tool('list_products', 'List the products, a page at a time.', (_PAGE,)),
    Tool('get_product', 'Get a product, its price and stock.', (_PRODUCT,)),
    Tool('list_orders', 'List the orders of a customer, a page at a time.', (_CUSTOMER, _PAGE)),
    Tool('get_order', 'Get an order.', (_ORDER,)),
    Tool('update_address', 'Change the city of a customer.', (_CUSTOMER, ('city', 'string'))),
    Tool('restock', 'Add to the stock of a product.', (_PRODUCT, _QUANTITY)),
    Tool('create_order', 'Order a product for a customer; takes it from stock.',
         (_CUSTOMER, _PRODUCT, _QUANTITY)),
    Tool('ship_order', 'Ship an open order.', (_ORDER,)),
    Tool('cancel_order', 'Cancel an open order; its products return to stock.', (_ORDER,)),
    Tool('refund_order', 'Refund a shipped order.', (_ORDER,)),
)
_GIT = (
    Tool('git_status', 'Show what is staged, changed and untracked.', (_REPOSITORY,)),
    Tool('git_diff_unstaged', 'Show changes that are not staged.', (_REPOSITORY, _CONTEXT)),
    Tool('git_diff_staged', 'Show changes that are staged.', (_REPOSITORY, _CONTEXT)),
    Tool('git_diff', 'Show how the files differ from a branch or commit.',
         (_REPOSITORY, ('target', 'string'), _CONTEXT)),
    Tool('git_commit', 'Record what is staged.', (_REPOSITORY, ('message', 'string'))),
    Tool('git_add', 'Stage files.', (_REPOSITORY, ('files', 'array'))),
    Tool('git_reset', 'Take everything off the stage.', (_REPOSITORY,)),
    Tool('git_log', 'List commits, the newest first.',
         (_REPOSITORY, ('max_count?', 'integer'), ('start_timestamp?', 'string'),
          ('end_timestamp?', 'string'))),
    Tool('git_create_branch', 'Make a branch.',
         (_REPOSITORY, ('branch_name', 'string'), ('base_branch?', 'string'))),
    Tool('git_checkout', 'Switch to a branch.', (_REPOSITORY, ('branch_name', 'string'))),
    Tool('git_show', 'Show a commit, or a file of it as revision:path.',
         (_REPOSITORY, ('revision', 'string'))),
    Tool('git_branch', 'List branches.',
         (_REPOSITORY, ('branch_type', 'string'), ('contains?', 'string'),
          ('not_contains?', 'string'))),
)
_TIME = (
    Tool('get_current_time', 'Tell the present time of a zone.', (('timezone', 'string'),)),
    Tool('convert_time', 'Move a time of day from one zone to another.',
         (('source_timezone', 'string'), ('time', 'string'), ('target_timezone', 'string'))),
)
_PATH = ('path', 'string')
_FILESYSTEM = (
    Tool('read_file', 'The same as read_text_file.',
         (_PATH, ('tail?', 'number'), ('head?', 'number'))),
    Tool('read_text_file', 'Read a file, or its first or last lines.',
         (_PATH, ('tail?', 'number'), ('head?', 'number'))),
    Tool('read_media_file', 'Read an image or a sound.', (_PATH,)),
    Tool('read_multiple_files', 'Read several files, each after its path.', (('paths', 'array'),)),
    Tool('write_file', 'Make a file, or replace all of its text.', (_PATH, ('content', 'string'))),
    Tool('edit_file', 'Replace pieces of text in a file; shows the difference.',
         (_PATH, ('edits', 'array'), ('dryRun?', 'boolean'))),
    Tool('create_directory', 'Make a folder, and those above it.', (_PATH,)),
    Tool('list_directory', 'List a folder.', (_PATH,)),
    Tool('list_directory_with_sizes', 'List a folder with the sizes of files.',
         (_PATH, ('sortBy?', '"name" | "size"'))),
    Tool('directory_tree', 'Show a folder and all below it as JSON.',
         (_PATH, ('excludePatterns?', 'array'))),
    Tool('move_file', 'Move or rename a file or folder; never onto another.',
         (('source', 'string'), ('destination', 'string'))),
    Tool('search_files', 'Find paths below a folder by a glob pattern.',
         (_PATH, ('pattern', 'string'), ('excludePatterns?', 'array'))),
    Tool('get_file_info', 'Tell size, times, kind and permissions.', (_PATH,)),
    Tool('list_allowed_directories', 'Tell which folders can be used.'),
)
_MEMORY = (
    Tool('create_entities', 'Add entities: name, entityType, observations.',
         (('entities', 'array'),)),
    Tool('create_relations', 'Add relations: from, to, relationType.', (('relations', 'array'),)),
    Tool('add_observations', 'Add notes: entityName, contents.', (('observations', 'array'),)),
    Tool('delete_entities', 'Remove entities and their relations.', (('entityNames', 'array'),)),
    Tool('delete_observations', 'Remove notes: entityName, observations.',
         (('deletions', 'array'),)),
    Tool('delete_relations', 'Remove relations.', (('relations', 'array'),)),
    Tool('read_graph', 'Show everything.'),
    Tool('search_nodes', 'Find entities by name, type or note, and their relations.',
         (('query', 'string'),)),
    Tool('open_nodes', 'Show entities by name, and their relations.', (('names', 'array'),)),
)
_EVERYTHING = (
    Tool('echo', 'Say the message again.', (('message', 'string'),)),
    Tool('get-annotated-message', 'Give a message of a type.',
         (('messageType', '"error" | "success" | "debug"'), ('includeImage?', 'boolean'))),
    Tool('get-env', 'Show the environment variables.'),
    Tool('get-resource-links', 'Give links to resources, up to ten.', (('count?', 'number'),)),
    Tool('get-resource-reference', 'Give a resource by its number.',
         (('resourceType?', '"Text" | "Blob"'), ('resourceId?', 'number'))),
    Tool('get-structured-content', 'Tell the weather of a city.',
         (('location', '"New York" | "Chicago" | "Los Angeles"'),)),
    Tool('get-sum', 'Add two numbers.', (('a', 'number'), ('b', 'number'))),
    Tool('get-tiny-image', 'Give a small image.'),
    Tool('gzip-file-as-resource', 'Compress data behind an address.',
         (('name?', 'string'), ('data?', 'string'),
          ('outputType?', '"resourceLink" | "resource"'))),
    Tool('toggle-simulated-logging', 'Start or stop log messages.'),
    Tool('toggle-subscriber-updates', 'Start or stop messages about resources.'),
    Tool('trigger-long-running-operation', 'Take a while.',
         (('duration?', 'number'), ('steps?', 'number'))),
    Tool('simulate-research-query', 'Not to be called but as a task.',
         (('topic', 'string'), ('ambiguous?', 'boolean'))),
)

FACTS = Facts(
    world='tool servers',
    state_name='State',
    purpose=(
        'An agent calls tools that servers of the Model Context Protocol offer. You stand for the '
        'servers: given their data and every call so far, give the response to the next call, and '
        'keep account of what it changed.'),
    actions=(
        'An action is one tool call as JSON: {"name": TOOL, "arguments": {…}}.',
        'Arguments have the names and types of the tool; one marked ? may be left out. An action '
        'that is no JSON, or names no tool of the server, is answered with an error.'),
    observations=(
        'An observation is the text of the response: often one line of JSON, else plain text.',
        'Long lists come in pages: page tells which of how many, next_page the number of the next '
        'one where there is one.',
        'Commit hashes are abbreviated to seven characters. After 2000 characters the text is cut, '
        'and a line [output cut] says so.'),
    state=(
        'Of a database each table has a line with its name and columns, then a line for each row.',
        'Of a repository come the branch, the logs, and after == each file with its status; a text '
        'that differs in the index, at HEAD or on another branch comes again under that name.',
        'Of a clock the present moment is given, in UTC.',
        'Of a file system, after == each file with its text, and empty folders; of a graph, a line '
        'for each entity with its notes, and for each relation.',
        'Of a service, each record that matters has a line of JSON after its table and name; a '
        'line that begins with changed tells a value that is no longer as it was at first.'),
    rules=(
        'A call that reads changes nothing, and the same call gives the same answer until '
        'something is written.',
        'A call that writes shows in every later read: stock falls with an order and rises again '
        'when it is cancelled, a commit empties the stage, a new id is one above the largest.',
        'A call that fails changes nothing at all.',
        'Fields keep their names, order and types from one response to the next.'),
    errors=(
        'An error begins with Error and says in words what was wrong: an id that is not there, a '
        'page beyond the last, a state that does not allow the change.',
        'A missing or wrong argument is named with the type that was expected.',
        'A tool that is not there is answered with an error that repeats its name.'),
    runtime=(
        'Hashes of new commits cannot be known: give seven hexadecimal digits.',
        'Times of files are those of the making of the world: give any present date.',
        'The clock stands still during an episode.'),
    demonstration=(
        ('{"name": "get_product", "arguments": {"product_id": 41}}',
         '{"id": 41, "name": "lamp", "price": 12, "stock": 5}'),
        ('{"name": "create_order", "arguments": {"customer_id": 3, "product_id": 41, '
         '"quantity": 2}}',
         '{"id": 102, "customer_id": 3, "product_id": 41, "quantity": 2, "total": 24, '
         '"status": "open"}'),
        ('{"name": "get_product", "arguments": {"product_id": 41}}',
         '{"id": 41, "name": "lamp", "price": 12, "stock": 3}')),
    demonstration_state=(
        'customers: id name city\n3 Ada Bell Oslo\nproducts: id name price stock\n41 lamp 12 5\n'
        'orders: id customer product quantity total status\n101 3 41 1 12 shipped'),
    toolsets={'shop': _SHOP, 'git': _GIT, 'time': _TIME, 'filesystem': _FILESYSTEM,
              'memory': _MEMORY, 'everything': _EVERYTHING})
