"""publish: a bundle as a folder for the Hugging Face hub, and its upload where that is wanted."""

from __future__ import annotations

import re
from pathlib import Path

from edge.model.bundle import CARD, load
from trainer.recipe import TrainingError
from trainer.reporting import hub_folder

REPO = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def publish(run: str, folder: Path, *, repo: str | None, licence: str | None, upload: bool, private: bool) -> str:
    """Write the folder of a run, a bundle or `builtin`; upload it if asked.  Returns what was done.

    Raises TrainingError.
    """
    if repo is not None and not REPO.fullmatch(repo):
        raise TrainingError(f"--repo {repo}: give OWNER/NAME")
    if upload and repo is None:
        raise TrainingError("--upload needs --repo OWNER/NAME")
    found = Path(run) / "bundle"
    made = load(found if (found / CARD).is_file() else run)
    name = repo or f"OWNER/{re.sub(r'[^A-Za-z0-9.-]+', '-', made.card.name).strip('-')[:90]}"
    files = hub_folder.write_folder(made, folder, repo=name, licence=licence)
    if not upload:
        return f"{folder}: {', '.join(files)}"
    return f"{folder}: uploaded to {_uploaded(folder, name, files, private=private)}"


def _uploaded(folder: Path, repo: str, files: tuple[str, ...], *, private: bool) -> str:
    """Upload the files; returns the address of the repository."""
    try:
        from huggingface_hub import HfApi  # noqa: PLC0415 - optional, and only here
    except ImportError as error:
        raise TrainingError(
            f"{folder} is written. Uploading it needs the hub's library: pip install huggingface_hub, then log in with "
            "`hf auth login`, and run the same command again"
        ) from error
    try:
        api = HfApi()
        api.create_repo(repo, private=private, exist_ok=True, repo_type="model")
        done = api.upload_folder(repo_id=repo, folder_path=str(folder), allow_patterns=list(files), repo_type="model")
    except Exception as error:  # the library raises those of requests, of httpx, and its own
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        raise TrainingError(f"{folder} is written, but not uploaded to {repo}: {reason}") from error
    return str(getattr(done, "repo_url", None) or f"https://huggingface.co/{repo}")
