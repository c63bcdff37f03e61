"""The children of a page process that run nothing, and its work on the thread of the test."""

from __future__ import annotations

from types import SimpleNamespace


class Inline:
    async def run(self, function, *args):
        return function(*args)


class Job(SimpleNamespace):
    is_brief = False

    def as_json(self):
        return {"id": self.id, "state": self.state}


class Children:
    """Keeps what it is asked to run.  identity: of the jobs.  result: of a command that is run to its end."""

    def __init__(self, identity, result=None):
        self.identity, self.result = identity, result or {}
        self.jobs = ()
        self.ran = []

    def job(self, identity):
        return next((job for job in self.jobs if job.id == identity), None)

    def submit(self, arguments, *, label, by, time_s=600.0):
        self.ran.append(list(arguments))
        job = Job(id=self.identity, state="waiting", arguments=tuple(arguments), result=None, by=by)
        self.jobs = (job,)
        return job

    async def run_to_end(self, arguments, *, label, by, time_s=25.0, is_brief=False):
        self.ran.append(list(arguments))
        return Job(id="f" * 16, state="done", arguments=tuple(arguments), result=self.result)
