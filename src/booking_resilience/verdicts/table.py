"""What the errors of the common libraries mean: one table, no code.

`KNOWN` names classes by their package and name, so that no library is imported and none need be installed. A subclass
means what the first of its bases that stands here means. `docs/reference/verdicts.md` shows the same table.
"""

from __future__ import annotations

from typing import Final

from booking_resilience.verdicts.meanings import Rule, Sent

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
        (r"^Tunnel connection failed: 4(?!08|25|29)", "barred"),  # http.client, of a proxy's answer
        (r"^Tunnel connection failed", "unsent"),
    ),
)
_STATUS: Final = Rule("unknown", reads="status", where="response.status_code")

# fmt: off
_HTTPX: Final[tuple[tuple[str, Rule], ...]] = (
    ("HTTPStatusError WebSocketUpgradeError", Rule("answered", reads="status", where="response.status_code")),
    (("CloseError NetworkError ProtocolError ReadError ReadTimeout TimeoutException TransportError "
     "WebSocketDisconnect WebSocketNetworkError WriteError WriteTimeout"), _UNANSWERED),
    ("RemoteProtocolError", Rule("unanswered", words=(
        (r"without sending complete message body|incomplete chunked read", "cut"),
        (r"^<", "unanswered"),  # an end of HTTP/2, with a text of the server's own
        (r"(?i)illegal|malformed|can't parse|too (long|many)|content-length|transfer-|status_code|of headers", "cut"),
    ))),
    ("TooManyRedirects", _ANSWERED),
    ("DecodingError SSEError WebSocketInvalidTypeReceived", _CUT),
    ("ConnectError", Rule("unsent", wraps=_CHAIN, words=((rf"\[SSL: \w*({'|'.join(SSL_REASONS)})", "untrusted"),))),
    ("ConnectTimeout PoolTimeout", _UNSENT),
    ("ProxyError", Rule("unsent", words=((r"^4(?!08|25|29)\d\d\b|(?i:authentication|username)", "barred"),))),
    ("InvalidURL UnsupportedProtocol", _MISTAKE),
    ("CookieConflict LocalProtocolError StreamError", _MISUSE),
)
_REPEATS_UNANSWERED: Final = Rule("unanswered", wraps=_CHAIN, repeats="always")
_REDIS_ANSWER: Final = Rule("answered", reads="redis")
_SQL: Final = Rule("unknown", reads="sqlstate", repeats="always")
_SQL_MISUSE: Final = Rule("misuse", reads="sqlstate", repeats="always")
_AWS_UNSENT: Final = Rule("unsent", wraps=("kwargs.error", *_CHAIN), repeats="always")
_AWS_UNANSWERED: Final = Rule("unanswered", wraps=("kwargs.error", *_CHAIN), repeats="always")
_STRIPE: Final = Rule("answered", reads="status", where="http_status")
_AIOHTTP_STATUS: Final = Rule("answered", reads="status", where="status", wraps=("__cause__",))
_AIOHTTP_CONNECT: Final = Rule("unsent", wraps=("os_error", "certificate_error", "__cause__"))

KNOWN: Final[dict[str, tuple[tuple[str, Rule], ...]]] = {
    "builtins": (
        ("OSError", _OS),
        ("BrokenPipeError ConnectionAbortedError ConnectionError ConnectionResetError TimeoutError", _UNANSWERED),
        ("ConnectionRefusedError", _UNSENT),
        ("AssertionError AttributeError ImportError NameError NotImplementedError TypeError", _MISUSE),
    ),
    "appwrite": (("AppwriteException", Rule("mistake", reads="appwrite")),),
    "booking_resilience": (
        ("TransientError", _UNANSWERED),
        ("DeadlineExceededError", Rule("expired")),
        ("CircuitOpenError LimitExceededError", Rule("refusal")),
    ),
    "socket": (("gaierror herror", _UNSENT),),
    "ssl": (
        ("SSLError", _SSL),
        ("CertificateError SSLCertVerificationError", _UNTRUSTED),
    ),
    "http": (
        ("RemoteDisconnected", _UNANSWERED),
        ("HTTPException", _CUT),
        ("InvalidURL", _MISTAKE),
        ("ImproperConnectionState NotConnected", _MISUSE),
    ),
    "urllib": (
        (
            "URLError",
            Rule("unknown", wraps=("reason",), words=((r"unknown url type|no host given|host not given", "mistake"),)),
        ),
        ("HTTPError", Rule("answered", reads="status", where="code")),
        ("ContentTooShortError", _CUT),
    ),
    "httpx": _HTTPX,
    "httpx2": _HTTPX,
    "httpcore": _HTTPX,
    "httpcore2": _HTTPX,
    "anyio": (
        ("BrokenResourceError", Rule("unanswered", wraps=_CHAIN)),
        ("ConnectionFailed", _UNSENT),
    ),
    "trio": (("BrokenResourceError", Rule("unanswered", wraps=_CHAIN)), ("TooSlowError", _UNANSWERED)),
    "requests": (
        ("HTTPError", _STATUS),
        ("ConnectionError SSLError", Rule("unanswered", wraps=("args",))),
        ("Timeout", _UNANSWERED),
        ("RetryError", Rule("answered", reads="counted")),
        ("TooManyRedirects", _ANSWERED),
        ("ChunkedEncodingError ContentDecodingError JSONDecodeError", _CUT),
        ("ConnectTimeout", Rule("unsent", wraps=("args",))),
        ("ProxyError", Rule("unsent", wraps=("args",))),
        ("InvalidHeader InvalidJSONError InvalidSchema InvalidURL MissingSchema URLRequired", _MISTAKE),
        ("CookieConflictError StreamConsumedError UnrewindableBodyError", _MISUSE),
    ),
    "urllib3": (
        ("MaxRetryError", Rule(
            "unanswered", reads="counted", wraps=("reason",), repeats="urlopen",
            words=((r"too many (redirects|error responses)", "answered"),))),
        ("ProtocolError", Rule("unanswered", wraps=("args",), words=((r"^\(?'?Connection broken", "cut"),))),
        ("ReadTimeoutError TimeoutError", _UNANSWERED),
        ("SSLError", Rule("unanswered", wraps=("args", *_CHAIN))),
        ("ResponseError", Rule("answered", reads="counted")),
        ("DecodeError HeaderParsingError IncompleteRead InvalidChunkLength InvalidHeader", _CUT),
        ("ConnectTimeoutError EmptyPoolError NewConnectionError", _UNSENT),
        ("ProxyError", Rule("unsent", wraps=("args",))),
        ("CertificateError", _UNTRUSTED),
        ("ClosedPoolError HostChangedError LocationValueError ProxySchemeUnknown ProxySchemeUnsupported", _MISTAKE),
        ("BodyNotHttplibCompatible ResponseNotChunked TimeoutStateError UnrewindableBodyError", _MISUSE),
    ),
    "aiohttp": (
        ("ClientConnectionError ClientConnectionResetError ClientOSError UploadAbortedError", _UNANSWERED),
        ("ClientResponseError", _AIOHTTP_STATUS),
        ("InvalidUrlRedirectClientError NonHttpUrlRedirectClientError RedirectClientError", _ANSWERED),
        ("ClientPayloadError HttpProcessingError WebSocketError", _CUT),
        ("ContentTypeError", Rule("cut", reads="status", where="status")),
        ("ClientConnectorError ClientSSLError", _AIOHTTP_CONNECT),
        ("ConnectionTimeoutError", _UNSENT),
        ("ClientConnectorCertificateError ServerFingerprintMismatch", _UNTRUSTED),
        ("InvalidURL NonHttpUrlClientError", _MISTAKE),
    ),
    "grpc": (
        ("RpcError", Rule("unknown", reads="grpc")),
        ("FutureTimeoutError", _UNANSWERED),
        ("UsageError", _MISUSE),
        ("FutureCancelledError", Rule("nothing")),
    ),
    "redis": (
        ("RedisClusterException", Rule("unknown", wraps=_CHAIN, repeats="always")),
        ("ClusterError ConnectionError", _REPEATS_UNANSWERED),
        (("InitialHealthCheckFailedError NoValidDatabaseException TemporaryUnavailableException TimeoutError "
         "UnhealthyDatabaseException"), _UNANSWERED),
        ("AskError", Rule("answered", reads="redis", where="ASK")),
        ("AuthenticationError AuthorizationError ResponseError", _REDIS_ANSWER),
        ("ClusterCrossSlotError", Rule("answered", reads="redis", where="CROSSSLOT")),
        ("ExecAbortError", Rule("answered", reads="redis", where="EXECABORT")),
        ("HttpError", Rule("answered", reads="status", where="status")), ("LockError WatchError", _ANSWERED),
        ("MovedError", Rule("answered", reads="redis", where="MOVED")),
        ("NoPermissionError", Rule("answered", reads="redis", where="NOPERM")),
        ("NoScriptError", Rule("answered", reads="redis", where="NOSCRIPT")),
        ("OutOfMemoryError", Rule("answered", reads="redis", where="OOM")),
        ("BusyLoadingError", Rule("trouble", reads="redis", where="LOADING")),
        ("ClusterDownError", Rule("trouble", reads="redis", where="CLUSTERDOWN")),
        ("MasterDownError", Rule("trouble", reads="redis", where="MASTERDOWN")),
        ("ReadOnlyError", Rule("trouble", reads="redis", where="READONLY")),
        ("SlotNotCoveredError", Rule("trouble")), ("TryAgainError", Rule("again", reads="redis", where="TRYAGAIN")),
        ("InvalidResponse", _CUT), ("MaxConnectionsError", Rule("unsent", repeats="always")),
        ("CrossSlotTransactionError DataError", _MISTAKE),
        ("ChildDeadlockedError InvalidPipelineStack PubSubError", _MISUSE),
    ),
    "psycopg": (
        ("Error", _SQL),
        ("OperationalError", Rule("unanswered", reads="sqlstate", repeats="always", words=(
            (r"connection is bad: (invalid|missing|definition of service)", "mistake"),
            (r"(starting up|shutting down|in recovery mode|not yet accepting connections)", "trouble"),
            (r"too many (clients|connections)|remaining connection slots|no more connections", "trouble"),
            (r"authentication (failed|method)|client certificate|pg_hba\.conf|no password supplied", "answered"),
            (r"not permitted to log in|not currently accepting|channel binding|no such (user|database)", "answered"),
            (r"(role|user|database) \"?.*\"? does not exist|permission denied|parameter \"", "answered"),
            (r"certificate|does not support SSL|SSL error: (un|wrong|tlsv1 alert protocol)", "untrusted"),
        ))),
        ("PipelineAborted", Rule("answered", reads="sqlstate", repeats="always")),
        ("DataError InterfaceError NotSupportedError ProgrammingError", _SQL_MISUSE),
    ),
    "asyncpg": (
        ("PostgresError", _SQL),
        ("TargetServerAttributeNotMatched", Rule("trouble")),
        ("ProtocolError", _CUT),
        ("InterfaceError", Rule(
            "misuse", reads="sqlstate", words=((r"connection (is|was) closed", "unanswered"),), repeats="always")),
    ),
    "sqlalchemy": (
        ("AsyncAdapt_Error Error", Rule("unknown", reads="sqlstate", wraps=("__cause__",))),
        ("DBAPIError", Rule("unknown", reads="invalidated", wraps=("orig",))),
        ("StatementError", Rule("unknown", wraps=("orig",))),
        ("DisconnectionError", _UNANSWERED),
        ("MultipleResultsFound NoResultFound StaleDataError", _ANSWERED),
        ("TimeoutError", _UNSENT),
        ("ArgumentError CircularDependencyError CompileError DetachedInstanceError InvalidRequestError", _MISUSE),
    ),
    "botocore": (
        ("ConnectionClosedError ConnectionError HTTPClientError SSLError", _AWS_UNANSWERED),
        ("ReadTimeoutError", Rule("unanswered", repeats="always")),
        ("ClientError", Rule("answered", reads="aws")),
        (("ChecksumError FlexibleChecksumError IncompleteReadError ParserError ResponseParserError "
         "ResponseStreamingError"), _CUT),
        ("ConnectTimeoutError EndpointConnectionError ProxyConnectionError", _AWS_UNSENT),
        ("LoginError NoAuthTokenError NoCredentialsError PartialCredentialsError SSOError", _BARRED),
        (("BaseEndpointResolverError ConfigNotFound ConfigParseError DataNotFoundError EndpointProviderError "
         "InvalidConfigError InvalidDNSNameError InvalidEndpointConfigurationError InvalidHostLabelError "
         "InvalidProxiesConfigError InvalidRetryConfigurationError MissingParametersError "
         "OperationNotPageableError ParamValidationError ProfileNotFound UnknownClientMethodError "
         "UnknownServiceStyle UnknownSignatureVersionError ValidationError"), _MISTAKE),
    ),
    "stripe": (
        ("APIConnectionError", Rule("unanswered", wraps=("__cause__",), repeats="num_retries")),
        ("SignatureVerificationError", _ANSWERED),
        ("StripeError", _STRIPE),
        ("RateLimitError", Rule("busy", reads="status", where="http_status")),
        ("APIError", Rule("cut", reads="status", where="http_status")),
        ("AuthenticationError", Rule("barred", reads="status", where="http_status")),
    ),
}
# fmt: on
"""For each package, names of classes and how errors of them are judged."""
