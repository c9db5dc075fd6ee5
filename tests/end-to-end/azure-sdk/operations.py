"""All eight operations of Microsoft.Security's JIT API, through the official SDK as it is published.

The SDK is told where Ajar is (base_url) and for whom its tokens are (credential_scopes); enforce_https=False is its own
switch for plain HTTP. Usage: operations.py open | close, with the stack's address and tokens in the environment.
"""

import datetime
import os
import sys
import time

from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.mgmt.security import SecurityCenter
from azure.mgmt.security.v2020_01_01 import models

GROUP, LOCATION, NAME = "demo-rg", "westeurope", "default"
SCOPE = "api://ajar/.default"
BOB = "203.0.113.7"
PLAIN = {"enforce_https": False}


class TokenOfTheStack:
    def __init__(self, user):
        self.token = os.environ["TOKEN_" + user.upper()]

    def get_token(self, *scopes, **_):
        assert scopes == (SCOPE,), scopes
        return AccessToken(self.token, int(time.time()) + 3600)


def operations(user):
    client = SecurityCenter(
        TokenOfTheStack(user),
        os.environ["SUBSCRIPTION"],
        base_url=os.environ["AJAR_URL"],
        credential_scopes=[SCOPE],
    )
    return client.jit_network_access_policies


def eventually(what, holds):
    """The rules follow through queues; nothing here tells when, so it is asked again until the time is up."""
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def refused(status, code, call):
    try:
        call()
    except HttpResponseError as error:
        assert (error.status_code, error.error.code) == (status, code), error
        assert error.error.message, error
        return error
    raise AssertionError(f"{status} {code} was expected")


def policy(*vms):
    ports = [
        models.JitNetworkAccessPortRule(
            number=number,
            protocol="*",
            allowed_source_address_prefix="*",
            max_request_access_duration="PT3H",
        )
        for number in (22, 3389)
    ]
    machines = [models.JitNetworkAccessPolicyVirtualMachine(id=vm, ports=ports) for vm in vms]
    return models.JitNetworkAccessPolicy(kind="Basic", virtual_machines=machines)


def open_access():
    alice, bob, carol = operations("alice"), operations("bob"), operations("carol")
    web_1 = os.environ["VM"]

    created = alice.create_or_update(GROUP, LOCATION, NAME, policy(web_1), **PLAIN)
    assert created.name == NAME and created.location == LOCATION and created.kind == "Basic"
    assert created.type == "Microsoft.Security/locations/jitNetworkAccessPolicies"
    assert [port.number for port in created.virtual_machines[0].ports] == [22, 3389]
    refused(403, "AuthorizationFailed", lambda: bob.create_or_update(GROUP, LOCATION, NAME, policy(web_1), **PLAIN))
    wrong = policy(web_1)
    wrong.virtual_machines[0].ports[1].max_request_access_duration = "P2D"
    error = refused(400, "InvalidParameter", lambda: alice.create_or_update(GROUP, LOCATION, NAME, wrong, **PLAIN))
    assert error.error.target == "properties.virtualMachines[0].ports[1].maxRequestAccessDuration", error

    def shown():
        return carol.get(GROUP, LOCATION, NAME, **PLAIN)

    eventually("the ports are shut", lambda: shown().provisioning_state == "Succeeded")

    # More than one page.
    for index in range(101):
        alice.create_or_update(GROUP, LOCATION, f"empty-{index:03}", policy(), **PLAIN)
    names = [NAME] + [f"empty-{index:03}" for index in range(101)]
    for listed in (
        carol.list(**PLAIN),
        carol.list_by_region(LOCATION, **PLAIN),
        carol.list_by_resource_group(GROUP, **PLAIN),
        carol.list_by_resource_group_and_region(GROUP, LOCATION, **PLAIN),
    ):
        assert sorted(found.name for found in listed) == sorted(names)
    assert list(carol.list_by_region("northeurope", **PLAIN)) == []

    end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
    wish = models.JitNetworkAccessPolicyInitiateRequest(
        virtual_machines=[
            models.JitNetworkAccessPolicyInitiateVirtualMachine(
                id=web_1,
                ports=[
                    models.JitNetworkAccessPolicyInitiatePort(
                        number=22, end_time_utc=end, allowed_source_address_prefix=BOB
                    )
                ],
            )
        ],
        justification="INC-42",
    )

    def ask():
        return bob.initiate(GROUP, LOCATION, NAME, wish, request_id="a5a1cbb0-5e2c-11ef-9454-0242ac120002", **PLAIN)

    first = ask()
    assert first.requestor == "bob@contoso.example" and first.justification == "INC-42"
    port = first.virtual_machines[0].ports[0]
    assert (port.number, port.status, port.status_reason) == (22, "Initiating", "UserRequested")
    assert abs(port.end_time_utc - end) < datetime.timedelta(seconds=1)

    def status():
        requests = shown().requests
        assert len(requests) == 1, requests
        return requests[0].virtual_machines[0].ports[0].status

    eventually("the port is open", lambda: status() == "Initiated")
    assert ask().start_time_utc == first.start_time_utc, "a repeat is answered as the first"
    assert status() == "Initiated"


def close_access():
    alice = operations("alice")
    assert alice.delete(GROUP, LOCATION, NAME, **PLAIN) is None
    assert alice.delete(GROUP, LOCATION, NAME, **PLAIN) is None, "204 the second time"
    try:
        alice.get(GROUP, LOCATION, NAME, **PLAIN)
    except ResourceNotFoundError:
        return
    raise AssertionError("the policy is still there")


{"open": open_access, "close": close_access}[sys.argv[1]]()
