"""One job on an Android device: pushed by content, run under two time limits, pulled, and not believed.

The same contract as a local job. What can go wrong between here and there is a status of its own:
`no_device` for one that is not usable, `device_lost` for one that was and does not answer any more,
`transfer_failed` for a file that did not arrive whole, `timeout` for a runner that the far side
killed. A connection that was lost is looked for once, and the whole job then run once more: half of
one attempt is never joined to half of another. A limit on memory is held against the peak that the
runner tells, since nothing over there watches it.
"""

from __future__ import annotations

import contextlib
import re
import signal
import time
from pathlib import Path, PurePosixPath

from fidelity.devices.android.adb import LIMITS, DeviceLost, Limits
from fidelity.devices.android.phone import CallFailed, Phone
from fidelity.devices.android.properties import mend
from fidelity.devices.android.pull import OUTPUTS, pull, remove
from fidelity.devices.android.runtime import NoRuntime, runtime_files
from fidelity.devices.android.store import Store, digest_of, root
from fidelity.devices.believing import JOB, LOG, RESULT, no_result, read_result
from fidelity.devices.job import Adapter, Job, JobResult, Status
from fidelity.devices.tensor_files import inside
from fidelity.errors import BadInput

_WITHOUT_RESULT: dict[int, Status] = {2: "bad_input", 3: "no_device", 8: "transfer_failed"}
"""What the runner's exit code means when it could not even write result.json."""

_RUN = r"""
cd "$1/jobs/$2" || exit 1
runtime="$1/runtimes/$3"
export LD_LIBRARY_PATH="$runtime${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
timeout -s KILL "$4" "$runtime/fidelity-runner" . --runtime "$runtime" < /dev/null > /dev/null 2> runner.txt
echo "code $?"
head -c 2000 runner.txt
echo
echo fidelity-end
"""


def run_android_job(folder: Path, serial: str, *, adapter: Adapter | None = None, limits: Limits = LIMITS) -> JobResult:
    """Run a prepared job on the device and return its checked result, which result.json holds too.

    `adapter` is what discovery knows of the device's GPU, for a runtime that names none. Whatever
    the device does is a result with a status; raises BadInput for what is no serial, and
    EnvironmentMissing when adb, the runner or its libraries are not there.
    """
    job = Job.read(folder / JOB)
    phone = Phone(serial, limits)
    for name in (RESULT, LOG, OUTPUTS):
        remove(folder / name)
    try:
        files = _files(job, folder)
    except BadInput as error:
        result = no_result(job, "bad_input", str(error))
    else:
        found = digest_of(inside(folder, job.model))
        if found == job.model_sha256:
            result = _with_adapter(_twice(job, folder, phone, files), job, adapter)
        else:
            told = f"sha256 is {found[:16]}..., the job says {job.model_sha256[:16]}..."
            result = no_result(job, "bad_model", f"model {job.model}: {told}")
    remove(folder / RESULT)
    result.write(folder / RESULT)
    return result


def _files(job: Job, folder: Path) -> dict[str, Path]:
    """Every file of the job by the name it has there. Raises BadInput for one that is missing or leaves the job."""
    tensors = [tensor for item in job.inputs for tensor in item.tensors.values()]
    files = {}
    for name in (JOB, job.model, *([job.probe] if job.probe else []), *(tensor.file for tensor in tensors)):
        parts = PurePosixPath(name).parts
        if not parts or PurePosixPath(name).is_absolute() or ".." in parts or parts[0] in (RESULT, LOG, OUTPUTS):
            raise BadInput(f"{name!r}: not a name for a file of a job")
        files["/".join(parts)] = path = inside(folder, name)
        if not path.is_file():
            raise BadInput(f"{name!r}: there is no such file in the job")
    for tensor in tensors:
        if digest_of(inside(folder, tensor.file)) != tensor.sha256:
            raise BadInput(f"{tensor.file!r}: its sha256 is not the one recorded")
    return files


def _twice(job: Job, folder: Path, phone: Phone, files: dict[str, Path]) -> JobResult:
    """The job's result; after a lost connection, that of a second attempt, if the device comes back."""
    lost = ""
    try:
        if unusable := _unusable(phone):
            return no_result(job, "no_device", f"android:{phone.serial}: {unusable}")
        for _ in range(2):
            store = Store(phone, root())
            try:
                return _once(job, folder, store, files)
            except DeviceLost as error:
                lost = str(error)
            if not phone.reconnect():
                return no_result(job, "device_lost", f"android:{lost}; it did not come back")
            _clear(store)  # what ran there outlives its adbd
    except DeviceLost as error:
        return no_result(job, "device_lost", f"android:{error}")
    except BadInput as error:  # two devices with one serial
        return no_result(job, "no_device", str(error))
    return no_result(job, "device_lost", f"android:{lost}; it was lost twice")


def _unusable(phone: Phone) -> str | None:
    """Why the device cannot be used now, after one attempt to have back one that is not there."""
    state = phone.state()
    if state in ("absent", "offline") and phone.reconnect():
        return None
    return mend(state)


def _once(job: Job, folder: Path, store: Store, files: dict[str, Path]) -> JobResult:
    """One whole attempt, of which nothing is left there. Raises DeviceLost, and then something is."""
    try:
        result = _attempt(job, folder, store, files)
    except NoRuntime as error:
        result = no_result(job, "no_device", f"android:{store.phone.serial}: {error}")
    except CallFailed as error:
        result = no_result(job, "transfer_failed", f"android:{error}")
    except DeviceLost:
        raise
    except BaseException:  # interrupted, or no runner was built
        _clear(store)
        raise
    _clear(store)
    return result


def _clear(store: Store) -> None:
    with contextlib.suppress(DeviceLost, CallFailed):  # what stays is removed when it is a day old
        store.clear()


def _attempt(job: Job, folder: Path, store: Store, files: dict[str, Path]) -> JobResult:
    opened = store.open()
    runtime = runtime_files(opened.platform)
    names = {name: digest_of(path) for name, path in files.items()}
    libraries = {name: digest_of(path) for name, path in runtime.items()}
    paths = {digest_of(path): path for path in (*files.values(), *runtime.values())}
    store.fill(paths, opened)
    result = _run(job, folder, store, store.link(names, libraries))
    if result.status in ("ok", "timeout"):
        return result
    damaged = store.damaged({digest: path.stat().st_size for digest, path in paths.items()})
    if not damaged:
        return result
    which = ", ".join(sorted(path.name for digest, path in paths.items() if digest in damaged))
    error = f"the copy of {which} there was damaged, and is removed now: run it again"
    return no_result(job, "transfer_failed", f"android:{store.phone.serial}: {error}")


def _run(job: Job, folder: Path, store: Store, runtime: str) -> JobResult:
    """Run what is linked there, pull what it left, and check it."""
    limit = job.timeout_seconds
    late = no_result(job, "timeout", f"the runner passed its limit of {limit:g} s and was killed")
    started = time.monotonic()
    try:
        said = store.phone.script(
            _RUN, store.root, store.job, runtime, f"{limit:.3f}", seconds=limit + store.phone.limits.grace
        )
    except CallFailed:
        if time.monotonic() - started < limit:
            raise
        return late
    seconds = time.monotonic() - started
    line, _, words = said.partition("\n")
    code = int(match[1]) if (match := re.fullmatch(r"code ([0-9]{1,3})", line)) else -1
    if code in (124, 128 + signal.SIGKILL) and seconds >= limit:
        with contextlib.suppress(CallFailed):
            pull(store, folder)  # its log says how far it came
        return late
    pull(store, folder)
    words = "".join(char if char.isprintable() else " " for char in words)
    ending = f"{_ending(code)} ({' '.join(words.split())[:200]})" if words.strip() else _ending(code)
    if code in _WITHOUT_RESULT and not (folder / RESULT).exists():
        return no_result(job, _WITHOUT_RESULT[code], f"android:{store.phone.serial}: the runner {ending}")
    return _within_memory(read_result(job, folder, ending), job)


def _within_memory(result: JobResult, job: Job) -> JobResult:
    limit, peak = job.memory_limit_bytes, result.peak_memory_bytes
    if limit is None or peak is None or peak <= limit:
        return result
    used = f"{peak / 2**20:.0f} MiB, its limit is {limit / 2**20:.0f} MiB"
    return no_result(job, "out_of_memory", f"the runner used {used}").model_copy(update={"peak_memory_bytes": peak})


def _with_adapter(result: JobResult, job: Job, adapter: Adapter | None) -> JobResult:
    """The result with the GPU that discovery knows, where the runtime says that it took the model there."""
    if result.status != "ok" or job.device == "cpu" or result.adapter is not None:
        return result
    if not result.fully_accelerated and result.residency is None:
        return no_result(job, "no_device", "the runtime names no adapter, so nothing says that the GPU was used")
    return result.model_copy(update={"adapter": adapter})


def _ending(code: int) -> str:
    """How the runner ended, from what the far shell says: 128 and more is a signal."""
    if code <= 128:
        return f"ended with code {code}"
    try:
        return f"died of {signal.Signals(code - 128).name}"
    except ValueError:
        return f"ended with code {code}"
