"""How long the chaos lasts."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=3, help="kills that each chaos test tries (default 3)")
    parser.addoption("--chaos-seed", type=int, default=0, help="of the instants and the victims")
