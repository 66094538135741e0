"""The settings that the metrics port shows, as Milvus's does."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from conftest import Server, ServerFactory, free_port

from milvine.config import SETTINGS
from milvine.rate_settings import RATE_SETTINGS

GIVEN = {
    "MILVINE_PROXY_MAXSHARDNUM": "7",
    "MILVINE_QUOTAANDLIMITS_DML_ENABLED": "true",
    "MILVINE_QUOTAANDLIMITS_DML_INSERTRATE_MAX": "1.5",
    "MILVINE_COMMON_SECURITY_DEFAULTROOTPASSWORD": "hidden-password",
}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Server(tmp_path_factory.mktemp("configurations"), metrics_port=free_port(), env=GIVEN).running() as server:
        yield server


def _get(server: Server, path: str, **more: Any) -> requests.Response:
    return requests.get(server.metrics_uri + path, timeout=10, **more)


def test_all_settings_are_shown_without_secrets(given: Server) -> None:
    answer = _get(given, "/_cluster/configs")
    found = answer.json()
    assert found.keys() == {setting.key for setting in SETTINGS} | {rate.key for rate in RATE_SETTINGS}
    assert found["proxy.maxShardNum"] == "7"
    assert found["common.security.authorizationEnabled"] == "false"
    assert found["quotaAndLimits.dml.insertRate.max"] == "1.5"
    assert found["quotaAndLimits.dml.deleteRate.max"] == "-1"
    assert found["common.security.defaultRootPassword"] == found["metrics.token"] == "*****"
    assert "hidden-password" not in answer.text


def test_named_settings_are_read_as_in_milvus(given: Server) -> None:
    keys = "proxy.maxShardNum, PROXY.MAXSHARDNUM,no.such.key,common.security.defaultRootPassword"
    assert _get(given, "/management/config/get", params={"keys": keys}).json() == {
        "configs": [
            {"key": "proxy.maxShardNum", "value": "7"},
            {"key": "PROXY.MAXSHARDNUM", "value": "7"},
            {"key": "no.such.key", "error": "no.such.key: key not found"},
            {"key": "common.security.defaultRootPassword", "error": "access to sensitive config key is denied"},
        ]
    }
    for params, text in (({}, "query parameter 'keys' is required"), ({"keys": " , "}, "no valid keys provided")):
        refused = _get(given, "/management/config/get", params=params)
        assert (refused.status_code, refused.json()) == (400, {"msg": text})


def test_where_users_are_required_settings_need_the_token(new_server: ServerFactory) -> None:
    env = {"MILVINE_COMMON_SECURITY_AUTHORIZATIONENABLED": "true"}
    without = new_server(metrics_port=free_port(), env=env)
    assert _get(without, "/_cluster/configs").status_code == 401
    assert _get(without, "/metrics").status_code == 200
    with_token = new_server(metrics_port=free_port(), env={**env, "MILVINE_METRICS_TOKEN": "t"})
    for path in ("/_cluster/configs", "/management/config/get?keys=proxy.port"):
        assert _get(with_token, path).status_code == 401
        assert _get(with_token, path, headers={"Authorization": "Bearer t"}).status_code == 200
