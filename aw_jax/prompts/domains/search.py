"""Search over a fixed collection of documents: queries, and pages that are opened."""

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
        'A query is a few words; an address is one that a result has shown, or a guess.'),
    observations=(
        'Results are numbered, the best first: a title, the address, and a passage in which words '
        'of the query stand.',
        'An opened page is its title and its text, cut where it grows too long; the number of the '
        'part and of all parts is given.',
        'A query that nothing matches is answered with the sentence that there are no results.'),
    state=(
        'Each document has a line == address, then its title and its text or the beginning of it.',
        'Where the state is unknown the collection is still a fixed one: what was said of it once '
        'holds from then on.'),
    rules=(
        'Requests change nothing: the same query gives the same results in the same order.',
        'The text of a page agrees with the passage that a result showed of it.',
        'Facts agree between pages, unless the pages themselves are at odds; dates and numbers '
        'once given never change.',
        'Rarer words of the query weigh more; words in a title weigh more than in the text.'),
    errors=(
        'An address that is not in the collection is answered with: page not found.',
        'An empty query, or a number of results below one, is refused with a sentence.',
        'A page may be withheld or fail to load; the same request then fails again.'),
    runtime=(
        'Scores and times of a request cannot be known: leave them out, or give them in an '
        'ordinary size.',),
    demonstration=(
        ('{"name": "search", "arguments": {"query": "height of Mount Arvel"}}',
         '1. Mount Arvel\n   wiki/mount_arvel\n   Mount Arvel is a peak of 2,914 metres in the '
         'Selm range.\n2. Selm range\n   wiki/selm_range\n   Its peaks include Mount Arvel and '
         'Korra.'),
        ('{"name": "open", "arguments": {"address": "wiki/selm_range"}}',
         'Selm range\nThe Selm range lies in the north. Its peaks include Mount Arvel and Korra, '
         'the highest at 3,120 metres.\n(part 1 of 1)'),
        ('{"name": "open", "arguments": {"address": "wiki/korra_peak"}}', 'page not found')),
    demonstration_state=(
        '== wiki/mount_arvel\nMount Arvel\nMount Arvel is a peak of 2,914 metres in the Selm '
        'range.\n== wiki/selm_range\nSelm range\nThe Selm range lies in the north. Its peaks '
        'include Mount Arvel and Korra, the highest at 3,120 metres.'),
    toolsets={'': (
        Tool('search', 'Find documents by words.', (('query', 'string'), ('count?', 'integer'))),
        Tool('open', 'Read a document.', (('address', 'string'), ('part?', 'integer'))))})
