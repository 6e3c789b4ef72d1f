"""Every error a caller can meet, with the HTTP status it answers with.

    HeadraceError                 500  internal
    ├── CallerError               400  bad_request      the request is wrong: say how to mend it
    │   ├── TensorRejected        400  tensor           name, dtype, shape or content of a tensor
    │   ├── NotFound              404  not_found        model, version or path
    │   ├── NotCached             404  not_cached       only a remembered answer was wanted, and there is none
    │   ├── MethodNotAllowed      405  method
    │   ├── Unauthorized          401  unauthorized     the admin token is missing or wrong
    │   ├── SlowBody              408  slow_body        the body did not arrive in time
    │   ├── Conflict              409  conflict         what is asked does not go with what is under way
    │   └── TooLarge              413  too_large        over a limit of the server
    ├── Overloaded                429  overloaded       the queue is full; try again later
    ├── EngineFailed              500  engine           the engine raised on a valid request
    ├── EngineUnavailable         503  unavailable      the engine or its library cannot be had here
    ├── DeadlinePassed            504  deadline         the caller's own timeout ran out first
    ├── ArtifactRejected          500  artifact         digest, manifest or layout of a model version is wrong
    ├── ConfigRejected            400  config           a configuration or recipe is wrong
    ├── GoalMissed                500  goal             optimization ended outside its budget
    └── ToolFailed                500  tool             a profiler is missing, may not look, or has failed

Every class takes one message, and Overloaded a time, so that errors survive the way between processes.
Messages carry no path of the server and no secret.
"""

from __future__ import annotations

from typing import ClassVar


class HeadraceError(Exception):
    """Root of the tree; `status` is the HTTP status, `kind` the metric label."""

    status: ClassVar[int] = 500
    kind: ClassVar[str] = "internal"


class CallerError(HeadraceError):
    status = 400
    kind = "bad_request"


class TensorRejected(CallerError):
    kind = "tensor"


class NotFound(CallerError):
    status = 404
    kind = "not_found"


class NotCached(CallerError):
    status = 404
    kind = "not_cached"


class MethodNotAllowed(CallerError):
    status = 405
    kind = "method"


class Unauthorized(CallerError):
    status = 401
    kind = "unauthorized"


class Conflict(CallerError):
    status = 409
    kind = "conflict"


class SlowBody(CallerError):
    status = 408
    kind = "slow_body"


class TooLarge(CallerError):
    status = 413
    kind = "too_large"


class Overloaded(HeadraceError):
    """`retry_after_s` is when the work that waits now will be done."""

    status = 429
    kind = "overloaded"

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message, retry_after_s)
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return str(self.args[0])


class EngineFailed(HeadraceError):
    kind = "engine"


class EngineUnavailable(HeadraceError):
    status = 503
    kind = "unavailable"


class DeadlinePassed(HeadraceError):
    status = 504
    kind = "deadline"


class ArtifactRejected(HeadraceError):
    kind = "artifact"


class ConfigRejected(HeadraceError):
    status = 400
    kind = "config"


class GoalMissed(HeadraceError):
    kind = "goal"


class ToolFailed(HeadraceError):
    kind = "tool"
