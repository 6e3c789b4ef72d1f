import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import CallerError, MethodNotAllowed, NotFound
from protocol.paths import Route, parse_path


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("GET", "/v2", Route("server")),
        ("GET", "/v2/", Route("server")),
        ("GET", "/v2/health/live", Route("live")),
        ("GET", "/v2/health/ready", Route("ready")),
        ("GET", "/v2/models/m", Route("model", "m")),
        ("GET", "/v2/models/m/ready", Route("model_ready", "m")),
        ("POST", "/v2/models/m/infer", Route("infer", "m")),
        ("POST", "/v2/models/m/feedback", Route("feedback", "m")),
        ("GET", "/v2/models/m/versions/1", Route("model", "m", "1")),
        ("GET", "/v2/models/m/versions/1/ready", Route("model_ready", "m", "1")),
        ("POST", "/v2/models/m/versions/1/infer", Route("infer", "m", "1")),
        ("GET", "/v2/models/a%2Db", Route("model", "a-b")),
        ("GET", "/v2/models/m/versions/ready", Route("model", "m", "ready")),
        ("POST", "/v2/models/infer/infer", Route("infer", "infer")),
        ("POST", "/v2/admin/models/m/cache", Route("cache", "m")),
        ("GET", "/dashboard", Route("page")),
        ("GET", "/dashboard/", Route("page")),
        ("GET", "/dashboard/page.js", Route("page", file="page.js")),
        ("GET", "/dashboard/events", Route("events")),
        ("GET", "/dashboard/reports/m/1", Route("report", "m", "1")),
    ],
)
def test_every_path_of_the_protocol_has_its_route(method, path, route):
    assert parse_path(method, path) == route


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/v1",
        "v2",
        "//v2",
        "/v2/models",
        "/v2/models/",
        "/v2/models//infer",
        "/v2/models/m/versions",
        "/v2/models/m/versions//infer",
        "/v2/models/m/versions/../../x",
        "/v2/models/m/versions/../infer",
        "/v2/models/%2e%2e/infer",
        "/v2/models/..%2f..%2fetc/infer",
        "/v2/models/a%252Db/infer",
        "/v2/models/%ff/infer",
        "/v2/models/a%00/infer",
        "/v2/models/m%0A/infer",
        "/v2/models/" + "m" * 65,
        "/v2/models/m/load",
        "/v2/models/m/versions/1/feedback",
        "/v2/models//feedback",
        "/v2/models/m/infer/extra",
        "/v2/models/m/infer?x=1",
        "/dashboard/..",
        "/dashboard/..%2fgateway.py",
        "/dashboard/a/b",
        "/dashboard/reports/m",
        "/dashboard/reports/m/%2e%2e",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_any_other_path_is_not_found(method, path):
    with pytest.raises(NotFound) as caught:
        parse_path(method, path)
    assert caught.value.status == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v2"), ("GET", "/v2/models/m/infer"), ("GET", "/v2/models/m/feedback"), ("X", "/v2/")],
)
def test_a_known_path_with_the_wrong_method_says_which_it_takes(method, path):
    with pytest.raises(MethodNotAllowed, match=r"takes (GET|POST); got"):
        parse_path(method, path)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(["", "v2", "models", "versions", "infer", "..", "%2e", "%", "m"]) | st.text())
)
def test_any_path_is_a_route_or_a_refusal(parts):
    try:
        route = parse_path("GET", "/".join(parts))
    except CallerError:
        return
    assert "/" not in route.model + (route.version or "")
