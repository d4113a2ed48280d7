"""Text games: rooms, things in them, and short commands."""

from aw_jax.prompts.facts import Facts

FACTS = Facts(
    world='a text game',
    state_name='State',
    purpose=(
        'A player explores a world made of words. You stand for the game: given the world, as far '
        'as it is known, and every command so far, give the text that the next command gets.'),
    actions=(
        'An action is one short command in English: a verb and what it is for.',
        'Usual commands are look, inventory, go north, open X, close X, take X, drop X, '
        'put X in Y, take X from Y, examine X, eat X, cook X with Y, unlock X with Y.'),
    observations=(
        'A command is answered with a sentence or two on what happened.',
        'Entering a room or looking gives its name, what is in it, what stands open or closed, and '
        'where its exits lead.',
        'Where the game keeps a score, a change of it is told at the end.'),
    state=(
        'A line for each room with its exits, then what is in it; last what the player carries.',
        'What a closed container holds is listed, but a player sees it only once it is open.'),
    rules=(
        'A thing is in one place at a time: a room, a container, on a support, or carried.',
        'Doors and containers stay open or closed until somebody changes them; a locked one needs '
        'its key first.',
        'Only what is in the same room and not shut away can be seen or taken.',
        'What is cut, cooked or eaten stays so, and what is eaten is gone.',
        'Directions agree: who goes north and then south is back where he was.'),
    errors=(
        "A thing that is not here: You can't see any such thing.",
        "A way that is not there: You can't go that way.",
        "A command that the game does not know: That's not a verb I recognise.",
        'A failed command changes nothing.'),
    runtime=(
        "Nothing but the game's own chance is unpredictable: where it plays a part, any of its "
        'outcomes will do.',),
    demonstration=(
        ('open chest', 'You open the chest. It holds a brass key.'),
        ('take brass key from chest', 'You take the brass key from the chest.'),
        ('inventory', 'You are carrying: a brass key.'),
        ('go up', "You can't go that way.")),
    demonstration_state='hall: north to kitchen\nin hall: chest (closed)\nin chest: brass key\n'
                        'carried: nothing')
