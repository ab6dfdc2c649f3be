"""The one exception that is the user's to mend."""


class UserError(Exception):
    """Something in the job, the files or the set-up is wrong; the message is one clear sentence.

    Raised on every rank at once (``World.on_root``); the program prints it from one rank and exits with code 2.
    """
