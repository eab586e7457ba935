"""The form that messages of Amp's workers have."""


class MessageDictionary:
    """Makes the messages of one worker.

    Parameters
    ----------
    process_id : object
        Who sends, as the command line of the worker says: a text.
    """

    def __init__(self, process_id: object) -> None:
        self._process_id = process_id

    def __call__(self, subject: str, data: object = None) -> dict[str, object]:
        """Message with a subject, and data if there are any."""
        return {"id": self._process_id, "subject": subject, "data": data}
