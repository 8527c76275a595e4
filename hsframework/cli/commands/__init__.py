"""The commands: a module each, with ``add_arguments(parser)`` and ``run(arguments) -> exit status``.

A module's docstring is what ``hsframework COMMAND --help`` shows.  Modules beside them hold what several commands
share; their names begin with an underscore.
"""
