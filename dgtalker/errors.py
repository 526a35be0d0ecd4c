"""The one exception that means "the input is at fault", shown to the user as a single sentence."""


class UserError(Exception):
    """Bad input: its message says what is wrong and what to do. The command line exits with code 2.

    >>> try:
    ...     head = dg.load("nobody")
    ... except dg.UserError as error:
    ...     sentence = str(error)
    """
