"""OCPP-J: arrays of JSON, byte for byte, and what each version answers by default."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ocpp.messages import get_validator

from catenary.errors import CommandError
from catenary.protocols import ocpp_messages
from catenary.protocols.ocpp_messages import (
    V16,
    V21,
    V201,
    VERSIONS,
    Call,
    CallError,
    CallRefused,
    CallResult,
    Version,
    snake_case,
)

ID = "i" * 36


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[2,"1","Heartbeat",{}]', Call("1", "Heartbeat", b"{}")),
        (
            f' [ 2 , "{ID}" , "DataTransfer" , {{"a":1e999}} ]',
            Call(ID, "DataTransfer", b'{"a":1e999}'),
        ),
        ('[2,"é\\n","MeterValues",{"a":[{}]}]', Call("é\n", "MeterValues", b'{"a":[{}]}')),
        ('[3,"1",{"status":"Accepted"}]', CallResult("1", b'{"status":"Accepted"}')),
        ('[4,"1","NotSupported","no",{"a":1}]', CallError("1", "NotSupported", "no", b'{"a":1}')),
        ('[4,"1","NotSupported","no"]', CallError("1", "NotSupported", "no", b"{}")),
        ('[4,"1","NotSupported"]', CallError("1", "NotSupported", "", b"{}")),
        ('[4,"1","NotSupported",null,null]', CallError("1", "NotSupported", "", b"{}")),
    ],
)
@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.subprotocol)
def test_messages_are_read(text: str, message: object, version: Version) -> None:
    assert ocpp_messages.read(text.encode(), version) == message


def test_a_deeply_nested_payload_is_passed_on() -> None:
    payload = b'{"a":' * 2000 + b"1" + b"}" * 2000
    assert ocpp_messages.read(b'[2,"1","DataTransfer",%b]' % payload, V16) == Call(
        "1", "DataTransfer", payload
    )


def refused(text: str, version: Version) -> list[object] | str:
    """The answer to a message that is refused; the error's text if it is ignored."""
    with pytest.raises(CommandError) as error:
        ocpp_messages.read(text.encode(), version)
    if isinstance(error.value, CallRefused):
        answer: list[object] = json.loads(error.value.answer)
        return answer[1:3]
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "in_16", "in_201"),
    [
        ("", None, ["-1", "RpcFrameworkError"]),
        ("nonsense", None, ["-1", "RpcFrameworkError"]),
        ("{}", None, ["-1", "RpcFrameworkError"]),
        ("[]", None, ["-1", "MessageTypeNotSupported"]),
        ('["2","1","Heartbeat",{}]', None, ["1", "MessageTypeNotSupported"]),
        ('[9,"1","Heartbeat",{}]', None, ["1", "MessageTypeNotSupported"]),
        ("[2]", None, ["-1", "RpcFrameworkError"]),
        ('[2,1,"Heartbeat",{}]', None, ["-1", "RpcFrameworkError"]),
        ('[2,"","Heartbeat",{}]', None, ["-1", "RpcFrameworkError"]),
        (f'[2,"{ID}x","Heartbeat",{{}}]', None, ["-1", "RpcFrameworkError"]),
        ('[2,"1"]', ["1", "FormationViolation"], ["1", "FormatViolation"]),
        ('[2,"1","Heartbeat"]', ["1", "FormationViolation"], ["1", "FormatViolation"]),
        ('[2,"1","Heartbeat",{},{}]', ["1", "FormationViolation"], ["1", "FormatViolation"]),
        ('[2,"1","Heartbeat",[]]', ["1", "FormationViolation"], ["1", "FormatViolation"]),
        ('[2,"1",7,{}]', ["1", "FormationViolation"], ["1", "FormatViolation"]),
        ('[2,"1","heartbeat",{}]', ["1", "NotImplemented"], ["1", "NotImplemented"]),
        ('[2,"1","_private",{}]', ["1", "NotImplemented"], ["1", "NotImplemented"]),
        ('[2,"1","Ack",{}]', ["1", "NotImplemented"], ["1", "NotImplemented"]),
        ('[2,"1","Error",{}]', ["1", "NotImplemented"], ["1", "NotImplemented"]),
        ('[2,"1","Receive",{}]', ["1", "NotImplemented"], ["1", "NotImplemented"]),
        ("[3]", None, None),
        ('[3,"1",[]]', None, None),
        ('[3,"1",{},{}]', None, None),
        ("[4]", None, None),
        ('[4,"1"]', None, None),
        ('[4,1,"NotSupported"]', None, None),
    ],
)
def test_other_messages_are_refused(
    text: str, in_16: list[str] | None, in_201: list[str] | None
) -> None:
    """Answers are never answered, so that two sides which do not understand each other fall silent."""
    for version, answer in ((V16, in_16), (V201, in_201), (V21, in_201)):
        said = refused(text, version)
        if answer is None:
            assert isinstance(said, str)
            assert said.startswith("expected")
        else:
            assert said == answer


def test_text_that_is_not_utf_8_is_refused() -> None:
    for text in (b'[2,"1","Reset",{"a":"\xff"}]', b'[2,"1","Reset",{"\xc3":1}]'):
        with pytest.raises(CommandError):
            ocpp_messages.read(text, V16)


def test_the_messages_of_2_1_are_unknown_before() -> None:
    send, error = '[6,"1","NotifyPeriodicEventStream",{}]', '[5,"1","FormatViolation","",{}]'
    assert ocpp_messages.read(send.encode(), V21) == Call(
        "1", "NotifyPeriodicEventStream", b"{}", is_send=True
    )
    assert ocpp_messages.read(error.encode(), V21) == CallError("1", "FormatViolation", "", b"{}")
    for text in (send, error):
        assert refused(text, V201) == ["1", "MessageTypeNotSupported"]
        assert isinstance(refused(text, V16), str)
    assert isinstance(refused('[6,"1","x",{}]', V21), str), "a SEND is not answered"


def test_messages_are_written() -> None:
    assert (
        ocpp_messages.call("1", "Reset", b'{"type":"Soft"}') == b'[2,"1","Reset",{"type":"Soft"}]'
    )
    assert ocpp_messages.result("1", b"{}") == b'[3,"1",{}]'
    assert ocpp_messages.error("1", "InternalError", 'a "b"') == (
        b'[4,"1","InternalError","a \\"b\\"",{}]'
    )
    assert len(json.loads(ocpp_messages.error("1", "InternalError", "x" * 300))[3]) == 255


@pytest.mark.parametrize(
    ("action", "name"),
    [
        ("Authorize", "authorize"),
        ("BootNotification", "boot_notification"),
        ("NotifyEVChargingNeeds", "notify_ev_charging_needs"),
        ("Get15118EVCertificate", "get15118_ev_certificate"),
        ("NotifyDERAlarm", "notify_der_alarm"),
        ("GetCRL", "get_crl"),
    ],
)
def test_actions_in_snake_case(action: str, name: str) -> None:
    assert snake_case(action) == name


FROM_STATIONS = {
    V16: "Authorize BootNotification DataTransfer DiagnosticsStatusNotification"
    " FirmwareStatusNotification Heartbeat LogStatusNotification MeterValues SecurityEventNotification"
    " SignCertificate SignedFirmwareStatusNotification StartTransaction StatusNotification StopTransaction",
    V201: "Authorize BootNotification ClearedChargingLimit DataTransfer FirmwareStatusNotification"
    " Get15118EVCertificate GetCertificateStatus Heartbeat LogStatusNotification MeterValues"
    " NotifyChargingLimit NotifyCustomerInformation NotifyDisplayMessages NotifyEVChargingNeeds"
    " NotifyEVChargingSchedule NotifyEvent NotifyMonitoringReport NotifyReport"
    " PublishFirmwareStatusNotification ReportChargingProfiles ReservationStatusUpdate"
    " SecurityEventNotification SignCertificate StatusNotification TransactionEvent",
}
FROM_STATIONS[V21] = (
    FROM_STATIONS[V201] + " BatterySwap ClosePeriodicEventStream GetCertificateChainStatus"
    " NotifyDERAlarm NotifyDERStartStop NotifyPriorityCharging NotifySettlement"
    " NotifyWebPaymentStarted OpenPeriodicEventStream PullDynamicScheduleUpdate ReportDERControl"
    " VatNumberValidation"
)
"""The actions that stations call, of which OCPP has a schema of the answer."""

NAMES = {V16: "1.6", V201: "2.0.1", V21: "2.1"}


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.subprotocol)
def test_simple_default_answers_are_valid(version: Version) -> None:
    """By the schemas of the Open Charge Alliance, as PyPI's ocpp has them."""
    special = {"BootNotification", "Heartbeat"}
    for action in set(FROM_STATIONS[version].split()) - special:
        validator = get_validator(3, action, NAMES[version])
        if action in version.decided:
            assert action not in version.without_fields
            continue
        payload = {} if action in version.without_fields else {"status": "Accepted"}
        validator.validate(payload)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=40),
    lambda children: st.lists(children, max_size=5) | st.dictionaries(st.text(), children),
    max_leaves=20,
)


@given(st.lists(json_values | st.integers(2, 6), max_size=6), st.sampled_from(VERSIONS))
def test_any_array_is_read_or_refused(array: list[object], version: Version) -> None:
    try:
        message = ocpp_messages.read(json.dumps(array).encode(), version)
    except CallRefused as refused:
        kind, message_id, _, _, _ = json.loads(refused.answer)
        assert kind == 4
        assert message_id in ("-1", *array[1:2])
    except CommandError:
        pass
    else:
        assert message.id == array[1]


@given(st.binary(max_size=200), st.sampled_from(VERSIONS))
def test_any_bytes_are_read_or_refused(payload: bytes, version: Version) -> None:
    try:
        ocpp_messages.read(payload, version)
    except CommandError:
        pass
