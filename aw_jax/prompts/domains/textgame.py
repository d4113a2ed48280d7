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
        'Usual commands of most games are look, inventory, go north, open X, close X, take X, '
        'drop X, put X on Y, insert X into Y, take X from Y, examine X, eat X, cook X with Y, '
        'slice X with Y, unlock X with Y, prepare meal.',
        'Some games say look around, move north, open door to north, put X in Y, cook X in Y, '
        'read X, task.',
        'Games of science say look around, go to X, pick up X, move X to Y, pour X into Y, '
        'focus on X, activate X, connect X to Y, look at X, look in X, wait1.'),
    observations=(
        'A command is answered with a sentence or two on what happened.',
        'Entering a room or looking gives its name, what is in it, what stands open or closed, and '
        'where its exits lead.',
        'Where the game itself tells its score, a change of it is told at the end.',
        'A game that is won or lost answers every later command: The game has ended.',
        'The hidden check verdict, made after the end, is answered: won, lost, or not won yet.'),
    state=(
        'Some games show everything: the room that the player is in, a line for each room with '
        'its exits and doors, then what is where, which key fits what, last what the player '
        'carries.',
        'There, what a closed container holds is listed, but a player sees it only once it is '
        'open.',
        'Other games show what the player sees: the room, the inventory, and all commands that are '
        'possible, where the game understands no others.'),
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
        "In games that say look around: Unknown action: I'm not sure what you mean.",
        'In games of science: No known action matches that input.',
        'A failed command changes nothing.'),
    runtime=(
        "Nothing but the game's own chance is unpredictable: where it plays a part, any of its "
        'outcomes will do.',),
    demonstration=(
        ('open chest', 'You open the chest. It holds a brass key.'),
        ('take brass key from chest', 'You take the brass key from the chest.'),
        ('inventory', 'You are carrying: a brass key.'),
        ('go up', "You can't go that way.")),
    demonstration_state='player in: hall\nhall: north to kitchen\nkitchen: south to hall\n'
                        'in hall: chest (closed)\nin chest: brass key\ncarried: nothing')
