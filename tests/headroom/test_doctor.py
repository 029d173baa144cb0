"""``headroom doctor`` of what is elsewhere: it finds beforehand what a pull would stumble over."""

import json

import pytest

from tests.cluster import tsdb
from tests.cluster.faults import Fault, always, proxy
from tests.cluster.replay import api_server, by_kind, kubeconfig, shop

pytestmark = pytest.mark.usefixtures("outside_of_any_cluster")


@pytest.fixture
def examined(run):
    def examined(*arguments, code=0):
        found, out, err = run("doctor", "-o", "json", *arguments)
        assert (found, err) == (code, "")
        checks = {each["name"]: each for each in json.loads(out)}
        assert all(each["next_step"] for each in checks.values() if each["status"] != "ok")
        return checks

    return examined


def of(url, until=tsdb.RECORDED_END, days=0.1):
    return "--prometheus", url, "--until", until, "--days", days


def test_what_is_there_is_said_and_what_is_missing_has_a_next_step(examined, url):
    checks = examined(*of(url))
    assert checks["usage"]["finding"] == "1 namespaces, 7 containers, scraped every 60 s"
    assert checks["declared"]["finding"].endswith("1 autoscalers in kube-state-metrics")
    assert checks["throttling"]["status"] == "ok"
    assert checks["agents"]["status"] == "missing"
    assert "no latency is promised" in checks["agents"]["finding"]


def test_without_kube_state_metrics_it_says_what_is_lost_and_what_helps(examined, url):
    check = examined(*of(url, tsdb.OFTEN_END))["declared"]
    assert check["status"] == "missing"
    assert "--kubeconfig" in check["next_step"]


def test_containers_that_two_jobs_tell_are_counted(examined, url):
    assert "several" in examined(*of(url, tsdb.END, 1.25))["series"]["finding"]


def test_too_short_a_history_is_said(examined, url):
    check = examined(*of(url, tsdb.OFTEN_START + 3600, 1))["history"]
    assert check["status"] == "missing"
    assert "of 1 days" in check["finding"]


def test_where_there_is_no_usage_it_fails(examined, url):
    assert examined(*of(url, tsdb.RARE_START - 86_400), code=1)["usage"]["status"] == "failed"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(status=401, body=b"no"), "401"),
        (Fault(status=403, body=b"no"), "403"),
        (Fault(status=200, body=b"<html>log in</html>"), "not JSON"),
    ],
)
def test_a_server_that_refuses_is_one_failure(examined, url, fault, said):
    with proxy(url, always(fault)) as between:
        checks = examined(*of(between.url), code=1)
    assert list(checks) == ["prometheus"]
    assert said in checks["prometheus"]["finding"]


def test_nothing_that_listens_is_one_failure(examined):
    assert list(examined(*of("http://127.0.0.1:9"), code=1)) == ["prometheus"]


def test_an_api_server_is_asked_for_each_kind_and_says_what_it_refuses(examined, tmp_path):
    with api_server(by_kind(shop())) as server:
        kubeconfig(tmp_path / "config", server.url, server.token)
        server.fail(403, where=lambda path, _: "horizontalpodautoscalers" in path)
        found = examined("--kubeconfig", tmp_path / "config")
        assert found["api server"]["status"] == "missing"
        assert "horizontalpodautoscalers may not be read" in found["api server"]["finding"]


def test_a_wrong_token_is_one_failure(examined, tmp_path):
    with api_server(by_kind(shop())) as server:
        kubeconfig(tmp_path / "config", server.url, "wrong")
        found = examined("--kubeconfig", tmp_path / "config", code=1)
    assert "401" in found["api server"]["finding"]
