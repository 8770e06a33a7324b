using System.Net.Security;

namespace VirtBackup.Nbd;

/// <summary>How to open an export. Durations are bounds on waiting for a silent server, measured by <see cref="TimeProvider"/>.</summary>
public sealed record NbdClientOptions
{
    /// <summary>The most requests that one connection keeps in flight.</summary>
    public const int RequestsInFlightLimit = 1024;

    /// <summary>The most metadata contexts that one connection may ask for.</summary>
    public const int MetaContextsLimit = 16;

    /// <summary>Name of the export, at most 4096 bytes of UTF-8; empty asks for the server's default export.</summary>
    public string ExportName { get; init; } = "";

    /// <summary>
    /// Full names of metadata contexts to negotiate, such as <see cref="NbdContexts.BaseAllocation"/>. What the server
    /// does not offer is absent from <see cref="NbdClient.Contexts"/>; it is not an error until it is used.
    /// </summary>
    public IReadOnlyList<string> MetaContexts { get; init; } = [];

    /// <summary>Set: the connection is upgraded with STARTTLS before anything is asked, or it fails. Null: no TLS.</summary>
    public SslClientAuthenticationOptions? Tls { get; init; }

    /// <summary>Requests on the wire at one time; further callers wait. 1 to <see cref="RequestsInFlightLimit"/>.</summary>
    public int RequestsInFlightMax { get; init; } = 16;

    /// <summary>
    /// How long a cancelled call may go on because its buffer is in the middle of a transfer; after that the connection
    /// is given up, so that cancelling always ends.
    /// </summary>
    public TimeSpan CancellationGrace { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>How long disposing waits for the server to answer what is in flight and to close the connection.</summary>
    public TimeSpan CloseTimeout { get; init; } = TimeSpan.FromSeconds(5);

    public TimeProvider TimeProvider { get; init; } = TimeProvider.System;
}

/// <summary>Names of metadata contexts.</summary>
public static class NbdContexts
{
    /// <summary>Holes and zeroes (NBD protocol, "Metadata contexts").</summary>
    public const string BaseAllocation = "base:allocation";

    /// <summary>A QEMU dirty bitmap (QEMU, docs/interop/nbd.txt).</summary>
    public static string QemuDirtyBitmap(string bitmap) => "qemu:dirty-bitmap:" + bitmap;
}
