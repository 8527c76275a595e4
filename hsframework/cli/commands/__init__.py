"""Commands, one module each, with ``add_arguments(parser)`` and ``run(arguments)``, which returns the exit status.

``hsframework COMMAND --help`` shows the module's docstring.  Code that several commands share is in
:mod:`hsframework.cli.options`.
"""
