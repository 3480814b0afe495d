"""What the errors of the common libraries mean: one table, no code.

`KNOWN` names classes by their package and name, so that no library is imported and none need be installed. A subclass
means what the first of its bases that stands here means. `docs/reference/verdicts.md` shows the same table.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple, TypeAlias

Sent: TypeAlias = Literal["no", "maybe", "yes"]
Text: TypeAlias = Literal["network", "service", ""]


class Meaning(NamedTuple):
    """What an error says.

    Attributes:
        rank: Of an error and the one that it wraps, the meaning of the higher rank counts; with equal ranks its own.
        transient: Whether the same call may succeed later.
        sent: Whether the request reached the server.
        failure: Whether the backend is in trouble.
        evidence: Whether it says anything of the backend.
        text: Which text people are told: the network's, the service's, or none of the two.
        about: What it means, in words.
    """

    rank: int
    transient: bool
    sent: Sent
    failure: bool
    evidence: bool
    text: Text
    about: str


class Rule(NamedTuple):
    """How an error of a class is judged.

    Attributes:
        meaning: A key of `MEANINGS`, for an error of which nothing below tells more.
        reads: The facts that such an error carries, which tell more: a key of `facts.READERS`, or none.
        where: The attribute that holds them, with dots.
        wraps: The attributes that hold what it wraps; of a tuple, each item.
        words: Expressions found in its text, and the meaning that each tells; the first that is found counts.
        repeats: What tells that the client made several attempts, so that a last one that never left proves nothing:
            a key of `find.REPEATS`, or none.
    """

    meaning: str
    reads: str = ""
    where: str = ""
    wraps: tuple[str, ...] = ()
    words: tuple[tuple[str, str], ...] = ()
    repeats: str = ""


MEANINGS: Final[dict[str, Meaning]] = {
    "unknown": Meaning(0, False, "maybe", True, True, "", "nothing is known of it"),
    "unanswered": Meaning(1, True, "maybe", True, True, "network", "no answer came"),
    "answered": Meaning(1, False, "yes", False, True, "", "another answer: refused, not found, in conflict"),
    "untold": Meaning(1, False, "maybe", False, True, "", "the server spoke, in words that tell nothing"),
    "broken": Meaning(1, False, "yes", True, True, "service", "the server failed at it, and would again"),
    "trouble": Meaning(1, True, "yes", True, True, "service", "the server is in trouble"),
    "again": Meaning(1, True, "yes", False, True, "", "the server asks for the same once more"),
    "busy": Meaning(1, True, "yes", False, False, "service", "the server is well, and asks for fewer calls"),
    "cut": Meaning(2, True, "yes", True, True, "network", "an answer broke off, or could not be read"),
    "unsent": Meaning(3, True, "no", True, True, "network", "no connection came about"),
    "untrusted": Meaning(4, False, "no", True, True, "network", "the server's certificate or version of TLS"),
    "barred": Meaning(4, False, "no", False, True, "", "the login failed, or a proxy's did"),
    "mistake": Meaning(4, False, "no", False, False, "", "the program's mistake, found before anything was sent"),
    "misuse": Meaning(1, False, "maybe", False, False, "", "the program's mistake"),
    "expired": Meaning(1, True, "maybe", False, False, "network", "an enclosing deadline ended"),
    "refusal": Meaning(1, False, "no", False, False, "service", "a breaker or limit of this library rejected it"),
    "nothing": Meaning(1, False, "maybe", False, False, "", "an interrupt, an exit or a cancellation"),
}  # fmt: skip

_UNANSWERED: Final = Rule("unanswered")
_CUT: Final = Rule("cut")
_MISTAKE: Final = Rule("mistake")
_MISUSE: Final = Rule("misuse")
_ANSWERED: Final = Rule("answered")
_BARRED: Final = Rule("barred")
_UNTRUSTED: Final = Rule("untrusted")
_UNSENT: Final = Rule("unsent")
_CHAIN: Final = ("__cause__", "__context__")

# ---- facts -----------------------------------------------------------------------------------------------------------

STATUSES: Final[dict[int, str]] = {
    408: "trouble", 425: "again", 429: "busy", 500: "trouble", 502: "trouble", 503: "trouble", 504: "trouble",
}  # fmt: skip
"""HTTP statuses; of all others below 500 `answered`, from 500 on `broken`."""

APPWRITE_PASSING: Final = (
    "general_resource_locked", "column_not_available", "attribute_not_available", "database_timeout",
)  # fmt: skip
"""Appwrite's error types that pass, whatever their status."""

APPWRITE_TROUBLE: Final = (None, "general_unknown", "general_server_error")
"""The types with which a 500, or a status without a meaning of its own, is the server's trouble."""

APPWRITE_DISABLED: Final = ("general_smtp_disabled", "general_phone_disabled")
"""The types with which a 503 stays."""

GRPC_CODES: Final[dict[str, tuple[str, Sent]]] = {
    "UNAVAILABLE": ("trouble", "maybe"),
    "DEADLINE_EXCEEDED": ("unanswered", "maybe"),
    "RESOURCE_EXHAUSTED": ("busy", "yes"),
    "ABORTED": ("again", "yes"),
    "INTERNAL": ("broken", "maybe"),
    "UNKNOWN": ("broken", "maybe"),
    "DATA_LOSS": ("broken", "yes"),
    "CANCELLED": ("answered", "maybe"),
}
"""gRPC's codes; all others `answered`. Where the client itself may have made the code, nobody knows what was sent."""

SQLSTATES: Final[dict[str, str]] = {
    "08": "unanswered", "53": "broken", "53300": "trouble", "57P0": "broken", "57P01": "trouble", "57P02": "trouble",
    "57P03": "trouble", "57P05": "trouble", "58": "broken", "XX": "broken", "40001": "again", "40P01": "again",
    "55P03": "again",
}  # fmt: skip
"""SQLSTATEs by what they begin with, the longest counts; all others `answered`."""

AWS_THROTTLING: Final = frozenset(
    {
        "bandwidthlimitexceeded", "ec2throttledexception", "limitexceededexception", "priorrequestnotcomplete",
        "provisionedthroughputexceededexception", "requestlimitexceeded", "requestthrottled",
        "requestthrottledexception", "slowdown", "throttledexception", "throttling", "throttlingexception",
        "toomanyrequestsexception", "transactioninprogressexception",
    }
)  # fmt: skip
"""AWS error codes that mean `busy`, in lower case."""

REDIS_WORDS: Final[dict[str, str]] = {
    "LOADING": "trouble", "CLUSTERDOWN": "trouble", "MASTERDOWN": "trouble", "READONLY": "trouble",
    "TRYAGAIN": "again", "BUSY": "again",
}  # fmt: skip
"""First words of Redis' answers; all others `answered`."""

REDIS_CLASSES: Final[dict[str, str]] = {
    "AskError": "ASK", "BusyLoadingError": "LOADING", "ClusterCrossSlotError": "CROSSSLOT",
    "ClusterDownError": "CLUSTERDOWN", "ExecAbortError": "EXECABORT", "MasterDownError": "MASTERDOWN",
    "MovedError": "MOVED", "NoPermissionError": "NOPERM", "NoScriptError": "NOSCRIPT", "ReadOnlyError": "READONLY",
    "TryAgainError": "TRYAGAIN",
}  # fmt: skip
"""The first word of the answer that redis-py makes an error of this class of; it takes the word from the text."""

ERRNOS: Final[dict[str, str]] = {
    "ECONNREFUSED": "unsent", "EHOSTDOWN": "unsent", "EHOSTUNREACH": "unsent", "ENETDOWN": "unsent",
    "ENETUNREACH": "unsent", "EADDRNOTAVAIL": "unsent", "ENONET": "unsent",
    "ECONNABORTED": "unanswered", "ECONNRESET": "unanswered", "ENETRESET": "unanswered", "ENOTCONN": "unanswered",
    "EPIPE": "unanswered", "ESHUTDOWN": "unanswered", "ETIMEDOUT": "unanswered",
}  # fmt: skip
"""Numbers of an `OSError`; all others `unknown`."""

SSL_REASONS: Final = (
    "CERTIFICATE", "UNKNOWN_CA", "UNSUPPORTED_PROTOCOL", "PROTOCOL_VERSION", "VERSION_TOO_LOW", "VERSION_NUMBER",
    "NO_PROTOCOLS_AVAILABLE", "HANDSHAKE_FAILURE", "NO_SHARED_CIPHER", "NO_CIPHERS", "HOSTNAME_MISMATCH",
    "INSUFFICIENT_SECURITY", "ACCESS_DENIED", "HTTP_REQUEST", "UNRECOGNIZED_NAME", "DH_KEY_TOO_SMALL",
    "EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK", "LEGACY_RENEGOTIATION", "NO_APPLICATION_PROTOCOL",
)  # fmt: skip
"""What is in the reason of an `SSLError` that every attempt meets again (`untrusted`); with others, no answer came."""

# ---- classes ---------------------------------------------------------------------------------------------------------

_SSL: Final = Rule("unanswered", reads="ssl")
_OS: Final = Rule(
    "unknown",
    reads="errno",
    words=(
        (r"^Multiple exceptions: ", "unsent"),  # asyncio
        (r"^All connection attempts failed", "unsent"),  # anyio
        (r"^all attempts to connect to .* failed", "unsent"),  # trio
        (r"^getaddrinfo.* return(ed|s an) empty list", "unsent"),  # socket and asyncio
    ),
)
_STATUS: Final = Rule("unknown", reads="status", where="response.status_code")

_HTTPX: Final[dict[str, Rule]] = {
    "CloseError": _UNANSWERED,
    "ConnectError": Rule("unsent", wraps=_CHAIN),
    "ConnectTimeout": _UNSENT,
    "CookieConflict": _MISUSE,
    "DecodingError": _CUT,
    "HTTPStatusError": _STATUS,
    "InvalidURL": _MISTAKE,
    "LocalProtocolError": _MISUSE,
    "NetworkError": _UNANSWERED,
    "PoolTimeout": _UNSENT,
    "ProtocolError": _UNANSWERED,
    "ProxyError": Rule("unsent", words=((r"^407\b", "barred"), (r"(?i)authentication|username", "barred"))),
    "ReadError": _UNANSWERED,
    "ReadTimeout": _UNANSWERED,
    "RemoteProtocolError": Rule(
        "unanswered",
        words=(
            (r"without sending complete message body|incomplete chunked read", "cut"),
            (r"(?i)illegal (status|header|chunk)|malformed|can't parse|too many headers|line too long", "cut"),
        ),
    ),
    "SSEError": _CUT,
    "StreamError": _MISUSE,
    "TimeoutException": _UNANSWERED,
    "TooManyRedirects": _ANSWERED,
    "TransportError": _UNANSWERED,
    "UnsupportedProtocol": _MISTAKE,
    "WebSocketDisconnect": _UNANSWERED,
    "WebSocketInvalidTypeReceived": _CUT,
    "WebSocketNetworkError": _UNANSWERED,
    "WebSocketUpgradeError": _STATUS,
    "WriteError": _UNANSWERED,
    "WriteTimeout": _UNANSWERED,
}

_REPEATS_UNANSWERED: Final = Rule("unanswered", wraps=_CHAIN, repeats="always")
_REDIS_ANSWER: Final = Rule("answered", reads="redis", repeats="always")
_SQL: Final = Rule("unknown", reads="sqlstate", repeats="always")
_SQL_MISUSE: Final = Rule("misuse", reads="sqlstate", repeats="always")
_AWS_UNSENT: Final = Rule("unsent", wraps=("kwargs.error", *_CHAIN), repeats="always")
_AWS_UNANSWERED: Final = Rule("unanswered", wraps=("kwargs.error", *_CHAIN), repeats="always")
_STRIPE: Final = Rule("answered", reads="status", where="http_status")
_AIOHTTP_STATUS: Final = Rule("answered", reads="status", where="status", wraps=("__cause__",))
_AIOHTTP_CONNECT: Final = Rule("unsent", wraps=("os_error", "certificate_error", "__cause__"))

KNOWN: Final[dict[str, dict[str, Rule]]] = {
    "builtins": {
        "AssertionError": _MISUSE,
        "AttributeError": _MISUSE,
        "BrokenPipeError": _UNANSWERED,
        "ConnectionAbortedError": _UNANSWERED,
        "ConnectionError": _UNANSWERED,
        "ConnectionRefusedError": _UNSENT,
        "ConnectionResetError": _UNANSWERED,
        "ImportError": _MISUSE,
        "NameError": _MISUSE,
        "NotImplementedError": _MISUSE,
        "OSError": _OS,
        "TimeoutError": _UNANSWERED,
        "TypeError": _MISUSE,
    },
    "appwrite": {"AppwriteException": Rule("mistake", reads="appwrite")},
    "booking_resilience": {
        "CircuitOpenError": Rule("refusal"),
        "DeadlineExceededError": Rule("expired"),
        "LimitExceededError": Rule("refusal"),
        "TransientError": _UNANSWERED,
    },
    "socket": {"gaierror": _UNSENT, "herror": _UNSENT},
    "ssl": {
        "CertificateError": _UNTRUSTED,
        "SSLCertVerificationError": _UNTRUSTED,
        "SSLError": _SSL,
    },
    "http": {  # http.client
        "HTTPException": _CUT,
        "ImproperConnectionState": _MISUSE,
        "InvalidURL": _MISTAKE,
        "NotConnected": _MISUSE,
        "RemoteDisconnected": _UNANSWERED,
    },
    "urllib": {  # urllib.error
        "ContentTooShortError": _CUT,
        "HTTPError": Rule("answered", reads="status", where="code"),
        "URLError": Rule(
            "unknown", wraps=("reason",), words=((r"unknown url type|no host given|host not given", "mistake"),)
        ),
    },
    "httpx": _HTTPX,
    "httpx2": _HTTPX,
    "httpcore": _HTTPX,
    "httpcore2": _HTTPX,
    "anyio": {"BrokenResourceError": Rule("unanswered", wraps=_CHAIN), "ConnectionFailed": _UNSENT},
    "trio": {"BrokenResourceError": Rule("unanswered", wraps=_CHAIN)},
    "requests": {
        "ChunkedEncodingError": _CUT,
        "ConnectTimeout": Rule("unsent", wraps=("args",)),
        "ConnectionError": Rule("unanswered", wraps=("args",)),
        "ContentDecodingError": _CUT,
        "CookieConflictError": _MISUSE,
        "HTTPError": _STATUS,
        "InvalidHeader": _MISTAKE,
        "InvalidJSONError": _MISTAKE,
        "InvalidSchema": _MISTAKE,
        "InvalidURL": _MISTAKE,
        "JSONDecodeError": _CUT,
        "MissingSchema": _MISTAKE,
        "ProxyError": Rule("unsent", wraps=("args",), words=((r"Tunnel connection failed: 407", "barred"),)),
        "RetryError": Rule("answered", reads="counted"),
        "SSLError": Rule("unanswered", wraps=("args",)),
        "StreamConsumedError": _MISUSE,
        "Timeout": _UNANSWERED,
        "TooManyRedirects": _ANSWERED,
        "URLRequired": _MISTAKE,
        "UnrewindableBodyError": _MISUSE,
    },
    "urllib3": {
        "BodyNotHttplibCompatible": _MISUSE,
        "CertificateError": _UNTRUSTED,
        "ClosedPoolError": _MISTAKE,
        "ConnectTimeoutError": _UNSENT,
        "DecodeError": _CUT,
        "EmptyPoolError": _UNSENT,
        "HeaderParsingError": _CUT,
        "HostChangedError": _MISTAKE,
        "IncompleteRead": _CUT,
        "InvalidChunkLength": _CUT,
        "InvalidHeader": _CUT,
        "LocationValueError": _MISTAKE,
        "MaxRetryError": Rule("unanswered", wraps=("reason",), repeats="urlopen"),
        "NewConnectionError": _UNSENT,
        "ProtocolError": Rule("unanswered", wraps=("args",), words=((r"^\(?'?Connection broken", "cut"),)),
        "ProxyError": Rule("unsent", wraps=("args",), words=((r"Tunnel connection failed: 407", "barred"),)),
        "ProxySchemeUnknown": _MISTAKE,
        "ProxySchemeUnsupported": _MISTAKE,
        "ReadTimeoutError": _UNANSWERED,
        "ResponseError": Rule("answered", reads="counted"),
        "ResponseNotChunked": _MISUSE,
        "SSLError": Rule("unanswered", wraps=("args", *_CHAIN)),
        "TimeoutError": _UNANSWERED,
        "TimeoutStateError": _MISUSE,
        "UnrewindableBodyError": _MISUSE,
    },
    "aiohttp": {
        "ClientConnectionError": _UNANSWERED,
        "ClientConnectionResetError": _UNANSWERED,
        "ClientConnectorCertificateError": _UNTRUSTED,
        "ClientConnectorError": _AIOHTTP_CONNECT,
        "ClientOSError": _UNANSWERED,
        "ClientPayloadError": _CUT,
        "ClientResponseError": _AIOHTTP_STATUS,
        "ClientSSLError": _AIOHTTP_CONNECT,
        "ConnectionTimeoutError": _UNSENT,
        "ContentTypeError": Rule("cut", reads="status", where="status"),
        "HttpProcessingError": _CUT,
        "InvalidURL": _MISTAKE,
        "NonHttpUrlClientError": _MISTAKE,
        "RedirectClientError": _ANSWERED,
        "InvalidUrlRedirectClientError": _ANSWERED,
        "NonHttpUrlRedirectClientError": _ANSWERED,
        "ServerFingerprintMismatch": _UNTRUSTED,
        "UploadAbortedError": _UNANSWERED,
        "WebSocketError": _CUT,
    },
    "grpc": {
        "FutureCancelledError": Rule("nothing"),
        "FutureTimeoutError": _UNANSWERED,
        "RpcError": Rule("unknown", reads="grpc"),
        "UsageError": _MISUSE,
    },
    "redis": {
        "AuthenticationError": Rule("answered", reads="redis", repeats="always"),
        "AuthorizationError": Rule("answered", reads="redis", repeats="always"),
        "BusyLoadingError": Rule("trouble", reads="redis", repeats="always"),
        "ChildDeadlockedError": _MISUSE,
        "ClusterError": _REPEATS_UNANSWERED,
        "ConnectionError": _REPEATS_UNANSWERED,
        "CrossSlotTransactionError": _MISTAKE,
        "DataError": _MISTAKE,
        "HttpError": Rule("answered", reads="status", where="status"),
        "InitialHealthCheckFailedError": _UNANSWERED,
        "InvalidPipelineStack": _MISUSE,
        "InvalidResponse": _CUT,
        "LockError": _ANSWERED,
        "MaxConnectionsError": Rule("unsent", repeats="always"),
        "NoValidDatabaseException": _UNANSWERED,
        "PubSubError": _MISUSE,
        "RedisClusterException": Rule("unknown", wraps=_CHAIN, repeats="always"),
        "ResponseError": _REDIS_ANSWER,
        "SlotNotCoveredError": Rule("trouble"),
        "TemporaryUnavailableException": _UNANSWERED,
        "TimeoutError": _UNANSWERED,
        "UnhealthyDatabaseException": _UNANSWERED,
        "WatchError": _ANSWERED,
    },
    "psycopg": {
        "DataError": _SQL_MISUSE,
        "Error": _SQL,
        "InterfaceError": _SQL_MISUSE,
        "NotSupportedError": _SQL_MISUSE,
        "OperationalError": Rule(
            "unanswered",
            reads="sqlstate",
            repeats="always",
            words=(
                (r"certificate|does not support SSL|SSL error: (un|wrong|tlsv1 alert protocol)", "untrusted"),
                (r"(starting up|shutting down|in recovery mode|not yet accepting connections)", "trouble"),
                (r"too many (clients|connections)|remaining connection slots|no more connections", "trouble"),
                (
                    r"authentication failed|no pg_hba\.conf entry|no password supplied|not permitted to log in",
                    "answered",
                ),
                (r"(role|user|database) \"?.*\"? does not exist|permission denied", "answered"),
                (r"FATAL: ", "untold"),
            ),
        ),
        "PipelineAborted": Rule("answered", reads="sqlstate", repeats="always"),
        "ProgrammingError": _SQL_MISUSE,
    },
    "asyncpg": {
        "InterfaceError": Rule(
            "misuse", reads="sqlstate", repeats="always", words=((r"connection (is|was) closed", "unanswered"),)
        ),
        "PostgresError": _SQL,
        "ProtocolError": _CUT,
        "TargetServerAttributeNotMatched": Rule("trouble"),
    },
    "sqlalchemy": {
        "ArgumentError": _MISUSE,
        "AsyncAdapt_Error": Rule("unknown", wraps=("__cause__",)),
        "CircularDependencyError": _MISUSE,
        "CompileError": _MISUSE,
        "DBAPIError": Rule("unknown", reads="invalidated", wraps=("orig",)),
        "DetachedInstanceError": _MISUSE,
        "DisconnectionError": _UNANSWERED,
        "Error": Rule("unknown", wraps=("__cause__",)),
        "InvalidRequestError": _MISUSE,
        "MultipleResultsFound": _ANSWERED,
        "NoResultFound": _ANSWERED,
        "StaleDataError": _ANSWERED,
        "StatementError": Rule("unknown", wraps=("orig",)),
        "TimeoutError": _UNSENT,
    },
    "botocore": {
        "BaseEndpointResolverError": _MISTAKE,
        "ChecksumError": _CUT,
        "ClientError": Rule("answered", reads="aws"),
        "ConfigNotFound": _MISTAKE,
        "ConfigParseError": _MISTAKE,
        "ConnectTimeoutError": _AWS_UNSENT,
        "ConnectionClosedError": _AWS_UNANSWERED,
        "ConnectionError": _AWS_UNANSWERED,
        "DataNotFoundError": _MISTAKE,
        "EndpointConnectionError": _AWS_UNSENT,
        "EndpointProviderError": _MISTAKE,
        "FlexibleChecksumError": _CUT,
        "HTTPClientError": _AWS_UNANSWERED,
        "IncompleteReadError": _CUT,
        "InvalidConfigError": _MISTAKE,
        "InvalidDNSNameError": _MISTAKE,
        "InvalidEndpointConfigurationError": _MISTAKE,
        "InvalidHostLabelError": _MISTAKE,
        "InvalidProxiesConfigError": _MISTAKE,
        "InvalidRetryConfigurationError": _MISTAKE,
        "LoginError": _BARRED,
        "MissingParametersError": _MISTAKE,
        "NoAuthTokenError": _BARRED,
        "NoCredentialsError": _BARRED,
        "OperationNotPageableError": _MISTAKE,
        "ParamValidationError": _MISTAKE,
        "ParserError": _CUT,
        "PartialCredentialsError": _BARRED,
        "ProfileNotFound": _MISTAKE,
        "ProxyConnectionError": _AWS_UNSENT,
        "ReadTimeoutError": Rule("unanswered", repeats="always"),
        "ResponseParserError": _CUT,
        "ResponseStreamingError": _CUT,
        "SSLError": _AWS_UNANSWERED,
        "SSOError": _BARRED,
        "UnknownClientMethodError": _MISTAKE,
        "UnknownServiceStyle": _MISTAKE,
        "UnknownSignatureVersionError": _MISTAKE,
        "ValidationError": _MISTAKE,
    },
    "stripe": {
        "APIConnectionError": Rule("unanswered", wraps=("__cause__",), repeats="num_retries"),
        "APIError": Rule("cut", reads="status", where="http_status"),
        "AuthenticationError": Rule("barred", reads="status", where="http_status"),
        "RateLimitError": Rule("busy"),
        "SignatureVerificationError": _ANSWERED,
        "StripeError": _STRIPE,
    },
}
