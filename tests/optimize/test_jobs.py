"""Jobs in processes of their own: what ends well, what is refused, and every way to die."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from headrace.errors import ConfigRejected, EngineFailed
from optimize.jobs import Job, open_jobs, reason_of
from optimize.recipe import load_recipe, recipe_of

ROOT = Path(__file__).resolve().parent.parent.parent
DYNAMIC = {"per_channel": True, "reduce_range": True}
PREPARE = Job("prepare", "the model", is_kept=False)


@pytest.fixture
def jobs(make_recipe, tmp_path):
    with open_jobs(tmp_path / "work", make_recipe()) as found:
        yield found


def with_evaluate(make_recipe, tmp_path, text):
    """What judging the original with this evaluate() comes to."""
    with open_jobs(tmp_path / "work", make_recipe(text)) as jobs:
        prepared = jobs.run(PREPARE)
        return jobs.run(Job("measure-original", "judging", {}, {"prepared": prepared}))


def test_a_job_is_done_once_for_the_same_inputs_and_options(jobs):
    prepared = jobs.run(PREPARE)
    inputs = {"model": prepared, "prepared": prepared}
    dynamic = Job("dynamic", "int8", DYNAMIC, inputs)
    first, second = jobs.run(dynamic), jobs.run(dynamic)
    assert first == second
    assert (jobs.num_run, jobs.num_found) == (2, 1)
    other = Job(
        "dynamic", "int8", {**DYNAMIC, "per_channel": False}, {"model": prepared, "prepared": prepared}
    )
    assert jobs.run(other).digest != first.digest


def test_the_next_run_finds_what_was_done(make_recipe, tmp_path):
    recipe = make_recipe()
    for found in (0, 1):
        with open_jobs(tmp_path / "work", recipe) as jobs:
            prepared = jobs.run(PREPARE)
            jobs.run(Job("dynamic", "int8", DYNAMIC, {"model": prepared, "prepared": prepared}))
            assert jobs.num_found == found


def test_another_recipe_is_another_job(make_recipe, tmp_path):
    job = Job("preprocess", "")
    keys = set()
    for evaluate in ("return 0.9", "return 0.8"):
        with open_jobs(tmp_path / "work", make_recipe(evaluate)) as jobs:
            keys.add(jobs.key(job))
    assert len(keys) == 2


def test_a_refusal_comes_back_as_what_it_was(make_recipe, tmp_path):
    with pytest.raises(ConfigRejected, match=r"recipe\.py line \d+: evaluate\(\) raised KeyError"):
        with_evaluate(make_recipe, tmp_path, "raise KeyError(3)")


@pytest.mark.parametrize(
    ("dies", "told"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGFPE)", "judging ended by SIGFPE"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL; was memory short"),
        ("import os; os._exit(7)", "judging ended with status 7"),
        ("raise MemoryError", "memory ran out|MemoryError"),
        ("raise SystemExit(5)", "judging ended with status"),
    ],
)
def test_every_way_to_die_is_told(make_recipe, tmp_path, dies, told):
    with pytest.raises((EngineFailed, ConfigRejected), match=told):
        with_evaluate(make_recipe, tmp_path, dies)


def test_what_a_job_printed_is_kept_apart_and_told_when_it_dies(make_recipe, tmp_path, capfd):
    text = "import os; print('the last words', flush=True); os._exit(1)"
    with pytest.raises(EngineFailed, match="the last words"):
        with_evaluate(make_recipe, tmp_path, text)
    assert "last words" not in capfd.readouterr().out


def test_a_job_that_takes_too_long_is_ended(make_recipe, tmp_path):
    recipe = make_recipe("import time; time.sleep(60)")
    with open_jobs(tmp_path / "work", recipe) as jobs:
        prepared = jobs.run(PREPARE)
    with open_jobs(tmp_path / "work", recipe, timeout_s=3) as jobs:
        started = time.monotonic()
        with pytest.raises(EngineFailed, match="longer than 3 s"):
            jobs.run(Job("measure-original", "judging", {}, {"prepared": prepared}))
    assert time.monotonic() - started < 30


def test_a_full_disk_is_told_and_leaves_nothing_half(make_recipe, tmp_path):
    # A limit on the size of files is met by a write as a full disk is: the system refuses it.
    more = (
        "import resource\n"
        "def model():\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "    return Path(__file__).with_name('words.onnx')\n"
    )
    with open_jobs(tmp_path / "work", make_recipe(more=more)) as jobs:
        with pytest.raises(OSError, match="File too large") as failed:
            jobs.run(PREPARE)
        assert reason_of(failed.value) == "File too large"
    assert not list((tmp_path / "work" / "jobs").glob("*"))


def test_one_run_at_a_time(jobs, tmp_path, make_recipe):
    with pytest.raises(ConfigRejected, match="another run"), open_jobs(tmp_path / "work", make_recipe()):
        pass


def test_a_file_where_the_folder_must_be_is_told(make_recipe, tmp_path):
    (tmp_path / "work").write_text("")
    with (
        pytest.raises(ConfigRejected, match="'work', or a folder above it, is a file"),
        open_jobs(tmp_path / "work", make_recipe()),
    ):
        pass


def test_functions_of_this_process_run_in_a_forked_one(make_recipe, tmp_path, prepare):
    graph = prepare(make_recipe()).graph
    here = os.getpid()
    from_file = load_recipe(tmp_path / "recipe.py")
    recipe = recipe_of(
        model=lambda: graph,
        evaluate=lambda predict: float(os.getpid() != here),
        example_inputs=from_file.functions["example_inputs"],
    )
    with open_jobs(tmp_path / "work", recipe) as jobs:
        prepared = jobs.run(PREPARE)
        told = jobs.run(Job("measure-original", "judging", {}, {"prepared": prepared}))
    assert told.facts["measured"]["accuracy"] == 1.0


def test_a_job_ends_with_the_run_that_started_it(make_recipe, tmp_path):
    mark = tmp_path / "pid"
    make_recipe(f"import os, time; Path({str(mark)!r}).write_text(str(os.getpid())); time.sleep(120)")
    program = (
        "from pathlib import Path\n"
        "from optimize.jobs import Job, open_jobs\n"
        "from optimize.recipe import load_recipe\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "with open_jobs(folder / 'work', load_recipe(folder / 'recipe.py')) as jobs:\n"
        "    prepared = jobs.run(Job('prepare', 'the model', is_kept=False))\n"
        "    jobs.run(Job('measure-original', 'judging', {}, {'prepared': prepared}))\n"
    )
    run = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT)
    until = time.monotonic() + 60
    while not (mark.exists() and mark.read_text()):
        assert time.monotonic() < until
        assert run.poll() is None
        time.sleep(0.05)
    child = int(mark.read_text())
    run.send_signal(signal.SIGKILL)
    run.wait()
    while Path(f"/proc/{child}/stat").exists():
        if Path(f"/proc/{child}/stat").read_text().split(")")[1].split()[0] == "Z":
            break
        assert time.monotonic() < until
        time.sleep(0.05)


def test_results_are_readable_json(jobs):
    done = jobs.run(PREPARE)
    assert json.loads((done.folder / "result.json").read_bytes())["facts"] == done.facts
