"""Settings as data: files, mappings and environments, what is wrong in them, and reloads."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import threading
import time

import pytest

import settings_schema
from booking_resilience import (
    CircuitBreaker,
    CircuitOpenError,
    ErrorMonitor,
    LimitExceededError,
    Pipeline,
    RetryBudget,
    RetryPolicy,
    Settings,
)
from booking_resilience.load import AdaptiveLimit, ConcurrencyLimit, RateLimit
from booking_resilience.testing import virtual_time

FILE = """
[breakers.db]
cooldown = 10
max_cooldown = "none"
failure_rate = { ratio = 0.25 }

[monitors.errors]
capacity = 50
alert = { threshold = 3 }

[pipelines.appwrite]
breaker = "db"
monitor = "errors"

[pipelines.appwrite.retry]
max_attempts = 5
base_delay = 0
deadline = "none"
budget = { capacity = 4, initial = 2 }
"""


RELOADS = int(os.environ.get("BOOKING_RELOADS", "40"))


class DownError(ConnectionError):
    pass


def fails():
    """Fail as a backend that's down does."""
    raise DownError


def attempts(pipeline):
    """Return how many attempts a call that fails takes."""
    calls = []

    def call():
        calls.append(1)
        raise DownError

    with pytest.raises((DownError, CircuitOpenError)):
        pipeline.call("op", call)
    return len(calls)


@pytest.fixture
def file(tmp_path):
    """A file of settings."""
    path = tmp_path / "bookings.toml"
    path.write_text(FILE)
    return path


def test_a_file_names_pipelines_breakers_and_monitors(file):
    """Each table makes its object, and a pipeline holds those that it names."""
    settings = Settings.load(file)
    pipeline = settings.pipeline("appwrite")
    assert pipeline.breaker is settings.breaker("db")
    assert pipeline.monitor is settings.monitor("errors")
    assert (pipeline.retry.max_attempts, pipeline.retry.deadline) == (5, None)
    assert pipeline.retry.budget is not None
    assert pipeline.retry.budget.tokens == 2
    assert settings.breaker("db").name == "db"
    assert settings.pipeline("appwrite") is pipeline
    assert repr(settings) == f"<Settings from {file}: 1 breakers, 1 monitors, 0 limits, 0 rates, 1 pipelines>"


def test_settings_can_be_made_without_load(file):
    """`Settings(source)` is the same as `Settings.load(source)`."""
    assert Settings(file).pipeline("appwrite").retry.max_attempts == 5


def test_a_path_may_be_a_string_and_a_mapping_does_as_well(file):
    """A path, its string and a mapping with the same content mean the same."""
    assert Settings.load(str(file)).pipeline("appwrite").retry.max_attempts == 5
    mapping = {"pipelines": {"p": {"retry": {"deadline": None, "jitter": "full"}}}}
    assert Settings.load(mapping).pipeline("p").retry == RetryPolicy(deadline=None, jitter="full")


def test_the_environment_names_settings_by_variables(monkeypatch):
    """Variables with the prefix set what their names say, in lower case; others are ignored."""
    monkeypatch.setenv("BOOKING_RESILIENCE__PIPELINES__APPWRITE__RETRY__MAX_ATTEMPTS", "7")
    monkeypatch.setenv("BOOKING_RESILIENCE__PIPELINES__APPWRITE__RETRY__DEADLINE", "none")
    monkeypatch.setenv("BOOKING_RESILIENCE__PIPELINES__APPWRITE__BREAKER", "db")
    monkeypatch.setenv("BOOKING_RESILIENCE__BREAKERS__DB__FAILURE_RATE", "{ ratio = 0.1 }")
    monkeypatch.setenv("BOOKING_RESILIENCE_OTHER", "x")
    pipeline = Settings.load(os.environ).pipeline("appwrite")
    assert pipeline.retry.max_attempts == 7
    assert pipeline.retry.deadline is None
    assert isinstance(pipeline.breaker, CircuitBreaker)


def test_an_environment_without_variables_is_empty_and_any_mapping_can_be_one():
    """The environment itself is one whatever it holds; a mapping is one by the prefix of a key."""
    assert repr(Settings.load(os.environ)).startswith("<Settings from the environment: 0 ")
    settings = Settings.load({"BOOKING_RESILIENCE__PIPELINES__P__CATEGORY": "chat", "HOME": "/"})
    assert settings.pipeline("p").category.value == "chat"


WRONG = {
    "section": ({"pipeline": {}}, "pipeline is unknown; the nearest known name is 'pipelines'"),
    "setting": ({"breakers": {"db": {"cooldwn": 1}}}, "breakers.db.cooldwn is unknown; .* is 'cooldown'"),
    "code": ({"breakers": {"db": {"failure_on": 1}}}, "breakers.db.failure_on is unknown"),
    "name": (
        {"pipelines": {"p": {"breaker": "bd"}}, "breakers": {"db": {}}},
        "pipelines.p.breaker.bd is unknown; the nearest known name is 'db'",
    ),
    "none": ({"pipelines": {"p": {"breaker": "db"}}}, "pipelines.p.breaker.db is unknown$"),
    "reference": ({"pipelines": {"p": {"breaker": 1}}}, "pipelines.p.breaker must be a string, not 1"),
    "range": (
        {"pipelines": {"p": {"retry": {"max_attempts": 0}}}},
        "pipelines.p.retry.max_attempts must be a whole number, 1 or more, not 0",
    ),
    "type": ({"breakers": {"db": {"cooldown": "1"}}}, "breakers.db.cooldown must be a finite number.*, not '1'"),
    "nested": ({"monitors": {"m": {"alert": {"threshold": -1}}}}, "monitors.m.alert.threshold must be"),
    "table": ({"breakers": {"db": 5}}, "breakers.db must be a table, not 5"),
    "tables": ({"breakers": 5}, "breakers must be a table, not 5"),
    "category": ({"pipelines": {"p": {"category": "x"}}}, "pipelines.p"),
    "quoted": ({"breakers": {"http://a:80": {"x": 1}}}, r'breakers."http://a:80".x is unknown'),
    "limit": ({"limits": {"db": {"limt": 5}}}, "limits.db.limt is unknown; the nearest known name is 'limit'"),
    "adaptive": ({"limits": {"db": {"minimun": 5}}}, "limits.db.minimun is unknown; .* is 'minimum'"),
    "fixed and adaptive": (
        {"limits": {"db": {"limit": 5, "minimum": 2}}},
        "limits.db.minimum can't be combined with limit",
    ),
    "no limit": ({"limits": {"db": {"limit": 0}}}, "limits.db.limit must be a whole number, 1 or more, not 0"),
    "no rate": ({"rates": {"mails": {"per": 60}}}, "rates.mails.rate is missing$"),
    "wait": (
        {"rates": {"mails": {"rate": 2, "max_wait": 3}}},
        "rates.mails.max_wait must be None where max_queue is 0",
    ),
    "rate name": (
        {"pipelines": {"p": {"rate": "mail"}}, "rates": {"mails": {"rate": 1}}},
        "pipelines.p.rate.mail is unknown; the nearest known name is 'mails'",
    ),
    "hedge": ({"pipelines": {"p": {"hedge": {"delay": 0.1}}}}, "pipelines.p.hedge.idempotent must be True"),
    "timeout": ({"pipelines": {"p": {"timeout": 0}}}, "pipelines.p.timeout.seconds must be"),
    "seconds": ({"pipelines": {"p": {"timeout": {}}}}, "pipelines.p.timeout.seconds is missing"),
    "fallback": ({"pipelines": {"p": {"fallback": 1}}}, "pipelines.p.fallback is unknown"),
    "number as name": ({"breakers": {1: {}}}, "breakers.1 must be named by a string, not 1"),
    "no none": ({"breakers": {"db": {"cooldown": None}}}, "breakers.db.cooldown must be"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named_with_its_place(case):
    """Anything unknown or absurd is a ValueError with the source, the dotted path and the nearest name."""
    tree, text = WRONG[case]
    with pytest.raises(ValueError, match=f"^the mapping: {text}"):
        Settings.load(tree)


def test_a_mapping_that_holds_itself_is_refused():
    """A mapping without an end is a ValueError, as a file is that is nested too deeply."""
    tree = {}
    tree["breakers"] = {"db": tree}
    with pytest.raises(ValueError, match=r"^the mapping: is nested too deeply$"):
        Settings.load(tree)


def test_a_file_that_is_no_toml_is_named(tmp_path):
    """Broken TOML and bytes that are no text name the file; a file that isn't there is the system's error."""
    path = tmp_path / "s.toml"
    for content in (b"[", b"\xff", b"x = " + b"[" * 5000):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"s\.toml: "):
            Settings.load(path)
    with pytest.raises(FileNotFoundError):
        Settings.load(tmp_path / "other.toml")
    with pytest.raises(TypeError, match="source must be a path or a mapping, not 5"):
        Settings.load(5)  # type: ignore[arg-type] - of the wrong type on purpose


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (("BREAKERS__DB", "BREAKERS__DB__COOLDOWN"), "breakers.db can't be a value and a table at once"),
        (("BREAKERS__DB__COOLDOWN", "breakers__db__cooldown"), "can't be given as .*DB__COOLDOWN, too"),
        (("breakers__DB", "BREAKERS__DB__COOLDOWN"), "breakers.db can't be a value and a table at once"),
        (("BREAKERS____COOLDOWN",), "must be BOOKING_RESILIENCE__ and names"),
        (("",), "must be BOOKING_RESILIENCE__ and names"),
    ],
)
def test_variables_that_make_no_sense_are_refused(names, text):
    """Variables that contradict one another, or have empty names, are a ValueError."""
    with pytest.raises(ValueError, match=f"^the environment: .*{text}"):
        Settings.load({f"BOOKING_RESILIENCE__{name}": "1" for name in names})


def test_a_variable_that_is_no_single_toml_value_is_text():
    """A value cannot bring settings of its own."""
    with pytest.raises(ValueError, match="category"):
        Settings.load({"BOOKING_RESILIENCE__PIPELINES__P__CATEGORY": "1\nbreaker = 'x'"})


def test_a_variable_that_is_nested_too_deeply_is_text():
    """What the TOML parser can't follow is text like all else that isn't TOML."""
    with pytest.raises(ValueError, match=r"breakers\.db\.cooldown must be a finite number"):
        Settings.load({"BOOKING_RESILIENCE__BREAKERS__DB__COOLDOWN": "[" * 5000})


def test_names_that_are_not_there_are_refused(file):
    """Asking for an unknown name names the nearest."""
    settings = Settings.load(file)
    with pytest.raises(ValueError, match=r"pipelines\.apwrite is unknown; the nearest known name is 'appwrite'"):
        settings.pipeline("apwrite")
    with pytest.raises(TypeError, match="name must be a string"):
        settings.breaker(5)  # type: ignore[arg-type] - of the wrong type on purpose


def test_a_reload_changes_the_objects_that_are_there(file):
    """After a reload the same objects go by the new settings, and keep their state."""
    settings = Settings.load(file)
    pipeline, breaker = settings.pipeline("appwrite"), settings.breaker("db")
    budget = pipeline.retry.budget
    decorated = pipeline.protect("op")(fails)
    assert attempts(pipeline) == 3  # two tokens
    file.write_text(FILE.replace("max_attempts = 5", "max_attempts = 1") + '[pipelines.new]\nbreaker = "db"\n')
    settings.reload()
    assert settings.pipeline("appwrite") is pipeline
    assert pipeline.breaker is breaker
    assert pipeline.retry.max_attempts == 1
    assert pipeline.retry.budget is budget
    assert budget is not None
    assert budget.tokens == 0
    assert attempts(pipeline) == 1
    with pytest.raises(DownError):
        decorated()
    with pytest.raises(CircuitOpenError):
        decorated()  # the fifth failure opened it
    assert settings.pipeline("new").breaker is breaker


def test_a_budget_takes_new_settings_and_keeps_its_tokens():
    """A budget that stays has its tokens cut to the new capacity, and the new prices."""
    tree = {"pipelines": {"p": {"retry": {"budget": {"capacity": 10.0, "initial": 8.0}}}}}
    settings = Settings.load(tree)
    budget = settings.pipeline("p").retry.budget
    assert isinstance(budget, RetryBudget)
    tree["pipelines"]["p"]["retry"]["budget"] = {"capacity": 3.0, "cost": 2.0}
    settings.reload()
    assert settings.pipeline("p").retry.budget is budget
    assert budget.tokens == 3
    assert budget.try_spend()
    assert budget.tokens == 1


def test_a_wrong_reload_changes_nothing(file):
    """A reload that finds anything wrong leaves all as it was."""
    settings = Settings.load(file)
    retry = settings.pipeline("appwrite").retry
    file.write_text(FILE.replace("max_attempts = 5", "max_attempts = 2") + "[breakers.other]\ncooldown = -1\n")
    with pytest.raises(ValueError, match=r"breakers\.other\.cooldown"):
        settings.reload()
    assert settings.pipeline("appwrite").retry is retry
    with pytest.raises(ValueError, match="other"):
        settings.breaker("other")


def test_names_that_are_gone_keep_their_objects(file):
    """What a file no longer names stays as it was."""
    settings = Settings.load(file)
    pipeline, breaker, monitor = settings.pipeline("appwrite"), settings.breaker("db"), settings.monitor("errors")
    file.write_text("")
    settings.reload()
    assert settings.pipeline("appwrite") is pipeline
    assert settings.breaker("db") is breaker
    assert settings.monitor("errors") is monitor
    assert pipeline.retry.max_attempts == 5


LOAD = """
[limits.fixed]
limit = 2
max_queue = 3

[limits.adaptive]
initial = 8
minimum = 2

[rates.mails]
rate = 10
burst = 4

[pipelines.reads]
limit = "adaptive"
rate = "mails"
hedge = { idempotent = true, delay = 0.5 }
timeout = 3

[pipelines.writes]
limit = "fixed"
timeout = { seconds = 2, max_abandoned = 5 }
retry = { max_attempts = 1 }
"""


@pytest.fixture
def load_file(tmp_path):
    """A file of limits."""
    path = tmp_path / "load.toml"
    path.write_text(LOAD)
    return path


def test_a_file_names_limits_and_rates(load_file):
    """A limit with `limit` is fixed, another adapts; pipelines hold the limits that they name, hedges and timeouts."""
    settings = Settings.load(load_file)
    reads, writes = settings.pipeline("reads"), settings.pipeline("writes")
    assert type(settings.limit("fixed")) is ConcurrencyLimit
    assert type(settings.limit("adaptive")) is AdaptiveLimit
    assert (settings.limit("fixed").snapshot().limit, settings.limit("adaptive").snapshot().limit) == (2, 8)
    assert isinstance(settings.rate("mails"), RateLimit)
    assert settings.rate("mails").name == "mails"
    assert reads.part("limit") is settings.limit("adaptive")
    assert reads.part("rate") is settings.rate("mails")
    assert writes.part("limit") is settings.limit("fixed")
    assert repr(reads.part("hedge")) == "Hedge(delay=0.5, percentile=95, max_extra=0.05)"
    assert repr(reads.part("timeout")) == "ThreadTimeout(3, max_abandoned=32)"
    assert repr(writes.part("timeout")) == "ThreadTimeout(2, max_abandoned=5)"
    assert reads.call("op", int, "5") == 5


def test_settings_without_limits_do_not_load_them():
    """Who sets no limits pays nothing for them."""
    code = (
        "import sys; from booking_resilience import Settings; Settings.load({'pipelines': {'p': {}}}); "
        "print('booking_resilience.load' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"


def test_a_reload_changes_a_limit_and_keeps_who_is_in_it(load_file):
    """A limit that grows lets those in who wait; one that shrinks waits for those who are in."""
    settings = Settings.load(load_file)
    limit = settings.limit("fixed")
    guards = [limit.guard() for _ in range(3)]
    for guard in guards[:2]:
        guard.__enter__()
    waiting = threading.Thread(target=guards[2].__enter__)
    waiting.start()
    end = time.monotonic() + 20
    while limit.snapshot().queued == 0 and time.monotonic() < end:
        time.sleep(0.001)
    load_file.write_text(LOAD.replace("limit = 2", "limit = 3"))
    settings.reload()
    waiting.join(20)
    assert (limit.snapshot().in_flight, limit.snapshot().queued) == (3, 0)
    load_file.write_text(LOAD.replace("limit = 2\nmax_queue = 3", "limit = 1"))
    settings.reload()
    guards[0].__exit__(None, None, None)
    guards[1].__exit__(None, None, None)
    with pytest.raises(LimitExceededError), limit.guard():
        pass
    guards[2].__exit__(None, None, None)
    with limit.guard():
        assert (limit.snapshot().limit, limit.snapshot().in_flight) == (1, 1)
    assert settings.limit("fixed") is limit
    assert settings.pipeline("writes").part("limit") is limit


def test_an_adaptive_limit_keeps_what_it_has_learned(load_file):
    """After a reload it stands where it stood, within the new bounds."""
    settings = Settings.load(load_file)
    limit = settings.limit("adaptive")
    with pytest.raises(TimeoutError):
        limit.call(fails_slowly)
    assert limit.snapshot().limit == 4
    load_file.write_text(LOAD.replace("initial = 8\nminimum = 2", "initial = 30\nminimum = 3\nmaximum = 50"))
    settings.reload()
    assert limit.snapshot().limit == 4
    load_file.write_text(LOAD.replace("minimum = 2", "minimum = 5"))
    settings.reload()
    assert limit.snapshot().limit == 5


def test_a_fixed_limit_may_begin_to_adapt_and_an_adaptive_one_may_be_fixed(load_file):
    """The object stays, whatever becomes of its kind, and goes by its new one."""
    settings = Settings.load(load_file)
    fixed, adaptive = settings.limit("fixed"), settings.limit("adaptive")
    load_file.write_text(LOAD.replace("limit = 2", "initial = 6").replace("initial = 8\nminimum = 2", "limit = 3"))
    settings.reload()
    assert settings.limit("fixed") is fixed
    assert isinstance(fixed, AdaptiveLimit)
    assert type(adaptive) is ConcurrencyLimit
    for limit in (fixed, adaptive):
        with pytest.raises(TimeoutError):
            limit.call(fails_slowly)
    assert (fixed.snapshot().limit, adaptive.snapshot().limit) == (3, 3)  # the first was halved


def test_a_rate_keeps_the_turns_that_were_taken(load_file):
    """After a reload the turns taken are taken, at the new rate."""
    with virtual_time() as time_now:
        settings = Settings.load(load_file)
        rate = settings.rate("mails")
        assert [rate.try_acquire() for _ in range(5)] == [True] * 4 + [False]
        load_file.write_text(LOAD.replace("rate = 10\nburst = 4", "rate = 1\nburst = 5"))
        settings.reload()
        assert [rate.try_acquire() for _ in range(2)] == [True, False]
        time_now.advance(1.0)
        assert [rate.try_acquire() for _ in range(2)] == [True, False]
        load_file.write_text(LOAD.replace("rate = 10\nburst = 4", "rate = 100\nburst = 1"))
        settings.reload()
        assert not rate.try_acquire()
        time_now.advance(0.011)
        assert [rate.try_acquire() for _ in range(2)] == [True, False]
        assert settings.rate("mails") is rate
        rate.pause(10.0)
        load_file.write_text(LOAD)
        settings.reload()
        assert not rate.try_acquire()
        time_now.advance(10.0)
        assert rate.try_acquire()


def test_a_reload_changes_hedges_and_timeouts(load_file):
    """They stay the same objects; what is new comes, and what is gone goes."""
    settings = Settings.load(load_file)
    reads = settings.pipeline("reads")
    hedge, timeout = reads.part("hedge"), reads.part("timeout")
    load_file.write_text(LOAD.replace("delay = 0.5", "percentile = 90").replace("timeout = 3", "timeout = 4"))
    settings.reload()
    assert (reads.part("hedge"), reads.part("timeout")) == (hedge, timeout)
    assert repr(hedge) == "Hedge(delay=None, percentile=90, max_extra=0.05)"
    assert repr(timeout) == "ThreadTimeout(4, max_abandoned=32)"
    load_file.write_text(LOAD.replace("timeout = 3\n", "").replace('limit = "adaptive"', 'limit = "fixed"'))
    settings.reload()
    assert reads.part("timeout") is None
    assert reads.part("limit") is settings.limit("fixed")
    load_file.write_text(LOAD.replace("burst = 4", "burst = 0"))
    with pytest.raises(ValueError, match=r"rates\.mails\.burst"):
        settings.reload()
    assert reads.part("timeout") is None


def fails_slowly():
    """Time out."""
    raise TimeoutError


async def double(x):
    """Return the double."""
    return 2 * x


def test_protected_functions_of_both_colours_work(file):
    """A pipeline of settings decorates functions, methods and coroutine functions."""
    import asyncio

    pipeline = Settings.load(file).pipeline("appwrite")
    assert pipeline.protect("op")(abs)(-3) == 3
    assert asyncio.run(pipeline.protect("op")(double)(4)) == 8
    assert isinstance(pipeline, Pipeline)
    assert isinstance(pipeline.monitor, ErrorMonitor)
    with pytest.raises(ValueError, match="operation"):
        pipeline.protect("")


def test_reloads_under_load_lose_no_call():
    """While settings are reloaded again and again every call is made, and its result comes out."""
    tree = {"pipelines": {"p": {"breaker": "b", "monitor": "m", "limit": "l", "rate": "r"}}}
    tree["pipelines"]["p"]["retry"] = {"max_attempts": 1}
    tree |= {"breakers": {"b": {"failure_threshold": 1000}}, "monitors": {"m": {"capacity": 10}}}
    tree |= {"limits": {"l": {"limit": 5}}, "rates": {"r": {"rate": 1e6, "burst": 10**6}}}
    settings = Settings.load(tree)
    pipeline, done, wrong = settings.pipeline("p"), threading.Event(), []
    protected = pipeline.protect("op")(int)

    def work():
        while not done.is_set():
            try:
                if pipeline.call("op", int, "5") != 5 or protected("7") != 7:
                    wrong.append("result")
            except BaseException as error:
                wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for number in range(RELOADS):
            tree["pipelines"]["p"]["retry"]["max_attempts"] = 1 + number % 3
            tree["breakers"]["b"]["cooldown"] = 1.0 + number % 2
            tree["limits"]["l"] = {"limit": 5 + number % 2} if number % 3 else {"minimum": 5}
            tree["rates"]["r"]["burst"] = 10**6 + number % 2
            settings.reload()
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert pipeline.retry.max_attempts == 1 + (RELOADS - 1) % 3
    assert settings.limit("l").snapshot().in_flight == 0


def test_the_schema_is_that_of_the_constructors():
    """The JSON schema file is what the constructors' signatures say; `python tests/settings_schema.py` writes it."""
    assert json.loads(settings_schema.PATH.read_text()) == settings_schema.schema()


def test_the_schema_is_part_of_the_package():
    """The schema is installed with the package."""
    import booking_resilience.settings

    assert pathlib.Path(booking_resilience.settings.__file__).with_name("schema.json") == settings_schema.PATH
