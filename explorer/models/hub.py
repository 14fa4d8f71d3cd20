"""Pairs on a model hub, through huggingface_hub: `fetch` and `upload`.

Enters: an address such as "hf://user/name" or "hf://user/name@revision"; or a folder. Leaves: the files that were asked
for, all of one commit, in the hub client's own cache; or the folder's files in a repository. What the hub says is told
in one line. Deliberately ignored: what is in the files.
"""

import re
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from explorer.errors import InputError, UserError
from explorer.version import __version__

SCHEME = "hf://"
LIMIT_SECONDS = 10.0
_REPOSITORY = r"[\w-][\w.-]*/[\w-][\w.-]*"
_COMMIT = "[0-9a-f]{40}"
_Answer = TypeVar("_Answer")


class RepositoryError(UserError, RuntimeError):
    """A model hub did not give or take something. The message says what it said, and how to mend it."""


def fetch(address: str, limits: Mapping[str, int]) -> Path:
    """The folder with some files of a repository, whose name is the commit that they are of.

    A commit that was fetched before comes from the cache, without a network.

    Args:
        address: "hf://user/name", for the newest commit, or "hf://user/name@revision".
        limits: the files, and how many bytes each of them may have.

    Raises:
        ValueError: that is no such address.
        RepositoryError: the hub did not give a file, or one is too large.
    """
    import huggingface_hub as hub

    match = re.fullmatch(rf"{SCHEME}({_REPOSITORY})(?:@([\w./-]+))?", address)
    if match is None:
        raise InputError(f"expected an address such as hf://user/name or hf://user/name@revision; got '{address}'")
    repository, revision = match[1], match[2] or "main"
    folder = Path()
    for name, limit in limits.items():
        cached = hub.try_to_load_from_cache(repository, name, revision=revision)
        if not (re.fullmatch(_COMMIT, revision) and isinstance(cached, str)):
            try:
                ask = partial(hub.get_hf_file_metadata, hub.hf_hub_url(repository, name, revision=revision))
                found = within(partial(ask, timeout=LIMIT_SECONDS), LIMIT_SECONDS)
                if found.size is not None and found.size > limit:
                    raise RepositoryError(f"'{name}' in {address} has more than {limit >> 20} MiB; it was not fetched")
                revision = found.commit_hash or revision  # the others are of the same commit
                cached = hub.hf_hub_download(repository, name, revision=revision)
            except RepositoryError:
                raise
            except Exception as error:  # the hub's client raises many types; all of them mean: not here
                raise RepositoryError(f"{address} could not be fetched: {_said(error)}") from error
        folder = Path(cached).parents[name.count("/")]
    return folder


def check_repository(name: str) -> None:
    """Raises ValueError unless this can be the name of a repository."""
    if not (isinstance(name, str) and re.fullmatch(_REPOSITORY, name)):
        raise InputError(f"expected the name of a repository such as user/name; got {str(name)!r:.80}")


def upload(folder: Path, repository: str, private: bool) -> str:
    """Put all files of a folder into a repository, which is made if it is not there, and return the commit.

    Raises:
        RepositoryError: the hub did not take them.
    """
    from huggingface_hub import HfApi

    api = HfApi(library_name="vit-explorer", library_version=__version__)
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        done = api.upload_folder(repo_id=repository, folder_path=folder, commit_message="A student and its pair")
    except Exception as error:
        raise RepositoryError(f"{SCHEME}{repository} was not written: {_said(error)}") from error
    return str(done.oid)


def within(ask: Callable[[], _Answer], seconds: float) -> _Answer:
    """What `ask` gives, or an error where it takes longer: a name service that hangs is cut off, too.

    Raises:
        TimeoutError: it took longer.
        Exception: whatever `ask` raised.
    """
    # A daemon, for the client tries again and again: an executor's thread would hold up the end of the process.
    answer: Future[_Answer] = Future()
    threading.Thread(target=_settle, args=(answer, ask), daemon=True).start()
    return answer.result(seconds)


def _settle(answer: "Future[_Answer]", ask: Callable[[], _Answer]) -> None:
    try:
        answer.set_result(ask())
    except Exception as error:
        answer.set_exception(error)


def first_line(error: BaseException) -> str:
    """Of an error's message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "no answer in time"


def _said(error: Any) -> str:
    said = [getattr(each, "response", None) for each in (error, error.__cause__)]  # uploads say only which file it was
    code = next((each.status_code for each in said if each is not None), None)
    if code is None:
        return f"the hub does not answer ({type(error).__name__}: {first_line(error)[:200]}); {_LATER}"
    return f"the hub said {code}; {_ADVICE.get(code, _LATER)}"


_WHO = "log in (`hf auth login`, or the variable HF_TOKEN) with a token that may do this, and check the name"
_ADVICE = {
    401: f"there is no such repository, or it asks who you are: {_WHO}",
    403: f"you may not do this there: {_WHO}",
    404: f"there is no such repository, revision or file; check the name, or, if it is private, {_WHO}",
}
_LATER = "try again later; what was fetched once stays at hand under its commit, hf://user/name@COMMIT"
