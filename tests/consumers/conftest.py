"""The brokers that the Kafka tests run on."""

import os

import pytest

from testing.broker import BrokerProcess
from testing.tansu import TansuProcess, Unavailable


@pytest.fixture(scope="session")
def own_broker(tmp_path_factory):
    """Our broker, for what only it can do."""
    broker = BrokerProcess(tmp_path_factory.mktemp("broker"))
    yield broker
    broker.close()


@pytest.fixture(scope="session")
def tansu_broker():
    try:
        broker = TansuProcess()
    except Unavailable as e:
        pytest.skip(f"Tansu cannot run here: {e}")
    yield broker
    broker.close()


@pytest.fixture(
    params=["own", pytest.param("tansu", marks=pytest.mark.tansu), "STREAMSKETCH_TEST_KAFKA"]
)
def bootstrap(request):
    """The address of each broker in turn; the last one where the variable names it."""
    if request.param == "own":
        return request.getfixturevalue("own_broker").bootstrap
    if request.param == "tansu":
        return request.getfixturevalue("tansu_broker").bootstrap
    if request.param not in os.environ:
        pytest.skip(f"{request.param} names no broker")
    return os.environ[request.param]
