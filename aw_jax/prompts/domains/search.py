"""Search over a fixed collection of documents (aw_jax/environments/search.py)."""

from aw_jax.prompts.facts import Facts, Tool

FACTS = Facts(
    world='a search engine',
    state_name='Index',
    purpose=(
        'An agent looks for facts with a search engine and opens the pages it finds. You stand '
        'for the engine and the pages: given the collection, as far as it is known, and every '
        'request so far, give the results or the text that the next request gets.'),
    actions=(
        'An action is one tool call as JSON: {"name": TOOL, "arguments": {…}}.',
        'A query is a few words, without operators; an address is one that a result or a page has '
        'shown, or a guess. Arguments marked ? may be left out.'),
    observations=(
        'Results are numbered through all pages, the best first, three a page where count says no '
        'other: a title, then the address, then a passage in which words of the query stand. The '
        'last line is (page 1 of 4), of ten pages at most.',
        'An opened page is its title, then its text a part at a time, at most 800 characters, cut '
        'between lines, then (part 1 of 3).',
        'find gives the title and up to three passages, each after the part it stands in: '
        'part 2: …; … stands where a long line is cut.',
        'A query that nothing matches is answered with: no results. Text that is not in a page is '
        'answered with its title and: no such text.'),
    state=(
        'Each document has a line == address, then its title and its text.',
        'Where the state is unknown the collection is still a fixed one: what was said of it once '
        'holds from then on.'),
    rules=(
        'Requests change nothing: the same query gives the same results in the same order.',
        'A result needs one word of the query; documents with all of them come before all others.',
        'Rarer words of the query weigh more, and words in a title more than in the text; of a '
        'word all forms match (city, cities), accents and capitals do not matter.',
        'The text of a page agrees with the passage that a result showed of it, and facts agree '
        'between pages, unless the pages themselves are at odds.'),
    errors=(
        'An error begins with Error executing tool, the name of the tool, and a colon.',
        'An address that is not in the collection: page not found.',
        'A page or part beyond the last: no part 4, last is 3.',
        'A query without words, more than 200 characters, or a count outside 1 to 8 is refused '
        'with a sentence.'),
    runtime=(
        'Nothing is random: no times or scores are shown.',),
    demonstration=(
        ('{"name": "search", "arguments": {"query": "height of Mount Arvel"}}',
         '1. Mount Arvel\n   https://atlas.test/mount-arvel\n   Mount Arvel is a peak of 2,914 '
         'metres in the Selm range\n2. Selm range\n   https://atlas.test/selm-range\n   The Selm '
         'range lies in the north. Its peaks include Mount Arvel and Korra, the highest at 3,120 '
         'metres\n(page 1 of 1)'),
        ('{"name": "open", "arguments": {"address": "https://atlas.test/selm-range"}}',
         'Selm range\nThe Selm range lies in the north.\nIts peaks include Mount Arvel and Korra, '
         'the highest at 3,120 metres.\n(part 1 of 1)'),
        ('{"name": "find", "arguments": {"address": "https://atlas.test/selm-range", "text": '
         '"Korra"}}',
         'Selm range\npart 1: Its peaks include Mount Arvel and Korra, the highest at 3,120 '
         'metres.\n(page 1 of 1)'),
        ('{"name": "open", "arguments": {"address": "https://atlas.test/korra"}}',
         'Error executing tool open: page not found')),
    demonstration_state=(
        '== https://atlas.test/mount-arvel\nMount Arvel\nMount Arvel is a peak of 2,914 metres in '
        'the Selm range.\n== https://atlas.test/selm-range\nSelm range\nThe Selm range lies in the '
        'north.\nIts peaks include Mount Arvel and Korra, the highest at 3,120 metres.'),
    toolsets={'': (
        Tool('search', 'Find documents by words.',
             (('query', 'string'), ('page?', 'integer'), ('count?', 'integer'))),
        Tool('open', 'Read a document.', (('address', 'string'), ('part?', 'integer'))),
        Tool('find', 'Find words in a document.',
             (('address', 'string'), ('text', 'string'), ('page?', 'integer'))))})
