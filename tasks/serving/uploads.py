"""Nothing of Crew takes a file: what comes as one is read past, and stored nowhere."""

from typing import Any

from django.core.files.uploadhandler import FileUploadHandler, SkipFile


class NoUploads(FileUploadHandler):
    """For `FILE_UPLOAD_HANDLERS`: Django would write long files to disk before it asks who calls.

    A form's fields are read as ever.
    """

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        raise SkipFile

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes | None:
        return None

    def file_complete(self, file_size: int) -> None:
        return None
