namespace VirtBackup.Testing.Lab;

/// <summary>What a <see cref="FaultProxy"/> does to one request.</summary>
public enum HttpFault
{
    None,

    /// <summary>500, and nothing is passed on.</summary>
    ServerError,

    /// <summary>503 SlowDown, and nothing is passed on.</summary>
    SlowDown,

    /// <summary>404 as a proxy answers that is set up wrong, and nothing is passed on: not a word about an object.</summary>
    ForeignNotFound,

    /// <summary>Nothing is passed on and nothing is answered.</summary>
    NoAnswer,

    /// <summary>The connection is reset when half of the request's body has come; the server gets none of it.</summary>
    ResetRequest,

    /// <summary>The server gets a request with one byte of its body changed.</summary>
    FlipRequest,

    /// <summary>The server does what it is asked, and the connection is reset in place of the answer.</summary>
    LoseAnswer,

    /// <summary>The server does what it is asked, and its answer does not come.</summary>
    HoldAnswer,

    /// <summary>The connection is reset when half of the answer's body has gone.</summary>
    ResetAnswer,

    /// <summary>The answer's body is half as long, and its head says so.</summary>
    ShortAnswer,

    /// <summary>One byte of the answer's body is changed.</summary>
    FlipAnswer,

    /// <summary>The answer says that all went well, and nothing is passed on: no store does that, and a proof that cannot see it is none.</summary>
    Swallow,

    /// <summary>The answer is the one that the same request had first.</summary>
    StaleAnswer,
}
