"""A server that answers `compact`'s prompts, and our client of it."""

import pytest


@pytest.fixture
def stub(model_server):
    return model_server(lambda body: '{"desk":"tech","urgency":2}')


@pytest.fixture
def client(stub):
    from dspex_nb.clients import connect

    made = connect("openai/stub", api_base=stub.url, api_key="sk-secret-1234", temperature=0)
    yield made
    made.close()
