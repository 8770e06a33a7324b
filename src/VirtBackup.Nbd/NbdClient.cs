using System.Runtime.CompilerServices;
using VirtBackup.Core;
using VirtBackup.Nbd.Wire;

namespace VirtBackup.Nbd;

/// <summary>
/// One connection to one export of an NBD server, fixed newstyle handshake (NetworkBlockDevice/nbd, doc/proto.md).
/// </summary>
/// <remarks>
/// <para>All members are safe for concurrent use; calls share the connection and may be answered in any order. Ranges
/// longer than the server takes in one request are split into requests that follow each other.</para>
/// <para>Failures of every call: <see cref="NbdErrorException"/> when the server refused it and the connection goes on;
/// <see cref="FaultException"/> with <see cref="FaultReason.Malformed"/> when the server broke the protocol, with
/// <see cref="FaultReason.Unavailable"/> when the connection was lost, and with <see cref="FaultReason.FailedPrecondition"/>
/// after disposing. After Malformed and Unavailable the connection is dead: every pending and later call fails alike.</para>
/// <para>Cancelling ends a call at once, or, while its buffer is in the middle of a transfer, as soon as that piece is
/// over, at the latest after <see cref="NbdClientOptions.CancellationGrace"/>. The buffer is never touched after the
/// call has ended. The server may still carry out a cancelled write.</para>
/// </remarks>
public sealed class NbdClient : IAsyncDisposable
{
    private readonly NbdConnection _connection;
    private readonly NbdExport _export;

    private NbdClient(NbdConnection connection, NbdExport export)
    {
        (_connection, _export) = (connection, export);
        Contexts = [.. export.Contexts.Select(context => context.Name)];
    }

    /// <summary>Length of the export in bytes.</summary>
    public long Size => _export.Size;

    public NbdExportFlags Flags => _export.Flags;

    public bool ReadOnly => Flags.HasFlag(NbdExportFlags.ReadOnly);

    public bool CanFlush => Flags.HasFlag(NbdExportFlags.Flush);

    public bool CanForceUnitAccess => Flags.HasFlag(NbdExportFlags.ForceUnitAccess);

    public bool CanTrim => Flags.HasFlag(NbdExportFlags.Trim);

    public bool CanWriteZeroes => Flags.HasFlag(NbdExportFlags.WriteZeroes);

    /// <summary>Several connections to the export see each other's flushed writes.</summary>
    public bool CanMultiConnect => Flags.HasFlag(NbdExportFlags.CanMultiConnect);

    /// <summary>The bounds that hold for this connection, in bytes; the largest request is never above 32 MiB.</summary>
    public NbdBlockSizes BlockSizes => _export.BlockSizes;

    /// <summary>Metadata contexts that the server granted: a subset of the requested ones.</summary>
    public IReadOnlyList<string> Contexts { get; }

    /// <summary>Connects and opens the export.</summary>
    /// <exception cref="FaultException">
    /// <see cref="FaultReason.Unavailable"/>: nobody answers; <see cref="FaultReason.NotFound"/>: no such export;
    /// <see cref="FaultReason.Denied"/>: the server refuses, or TLS fails or is required; <see cref="FaultReason.Unsupported"/>:
    /// the server is too old; <see cref="FaultReason.Malformed"/>: it does not speak NBD.
    /// </exception>
    public static async Task<NbdClient> ConnectAsync(NbdEndpoint endpoint, NbdClientOptions options, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(endpoint);
        Validate(options);
        var stream = await endpoint.ConnectAsync(cancellationToken);
        return await OpenAsync(stream, endpoint.ToString(), options, cancellationToken);
    }

    /// <summary>Opens the export over a connected duplex stream, which the client owns from now on, also when this fails.</summary>
    /// <inheritdoc cref="ConnectAsync" path="/exception"/>
    public static Task<NbdClient> OpenAsync(Stream stream, NbdClientOptions options, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(stream);
        Validate(options);
        return OpenAsync(stream, "the other end", options, cancellationToken);
    }

    private static async Task<NbdClient> OpenAsync(Stream stream, string server, NbdClientOptions options, CancellationToken cancellationToken)
    {
        var handshake = new Handshake(stream, server, options);
        try
        {
            var export = await handshake.RunAsync(cancellationToken);
            return new NbdClient(NbdConnection.Start(handshake.Stream, server, options, export), export);
        }
        catch (Exception)
        {
            await handshake.Stream.DisposeAsync();
            throw;
        }
    }

    /// <summary>Fills <paramref name="destination"/> from <paramref name="offset"/> bytes. Its content is undefined when this fails.</summary>
    public ValueTask ReadAsync(long offset, Memory<byte> destination, CancellationToken cancellationToken)
    {
        CheckRange(offset, destination.Length);
        return destination.Length == 0
            ? ValueTask.CompletedTask
            : destination.Length <= BlockSizes.Maximum
                ? _connection.ExecuteAsync(Operation.Read(offset, destination), cancellationToken)
                : ReadPiecesAsync(offset, destination, cancellationToken);
    }

    /// <summary>
    /// Writes <paramref name="source"/> at <paramref name="offset"/> bytes. Durable only after a <see cref="FlushAsync"/>
    /// that began after this returned. The source must not change until this returns.
    /// </summary>
    public ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> source, CancellationToken cancellationToken)
    {
        CheckRange(offset, source.Length);
        CheckWritable();
        return source.Length == 0
            ? ValueTask.CompletedTask
            : source.Length <= BlockSizes.Maximum
                ? _connection.ExecuteAsync(Operation.Write(offset, source), cancellationToken)
                : WritePiecesAsync(offset, source, cancellationToken);
    }

    /// <summary>Makes a range, in bytes, read as zeroes; the server may punch a hole. Durable after <see cref="FlushAsync"/>.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Unsupported"/>: see <see cref="CanWriteZeroes"/>.</exception>
    public ValueTask WriteZeroesAsync(long offset, long length, CancellationToken cancellationToken)
    {
        CheckRange(offset, length);
        CheckWritable();
        Require(CanWriteZeroes, "write zeroes");
        return RangePiecesAsync(NbdCommand.WriteZeroes, offset, length, cancellationToken);
    }

    /// <summary>Tells the server that a range, in bytes, is no longer needed. What it reads as afterwards is undefined.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Unsupported"/>: see <see cref="CanTrim"/>.</exception>
    public ValueTask TrimAsync(long offset, long length, CancellationToken cancellationToken)
    {
        CheckRange(offset, length);
        CheckWritable();
        Require(CanTrim, "trim");
        return RangePiecesAsync(NbdCommand.Trim, offset, length, cancellationToken);
    }

    /// <summary>Returns when every write that was answered before this call is on stable storage.</summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Unsupported"/>: see <see cref="CanFlush"/>.</exception>
    public ValueTask FlushAsync(CancellationToken cancellationToken)
    {
        Require(CanFlush, "flush");
        return _connection.ExecuteAsync(Operation.Range(NbdCommand.Flush, 0, 0), cancellationToken);
    }

    /// <summary>
    /// The status of a range, in bytes, in one negotiated context: extents in order, without gaps, exactly covering the
    /// range; neighbours differ in their flags. Requests follow each other as the result is read; at most one reply (2^20
    /// extents) is in memory.
    /// </summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Unsupported"/>: the context was not negotiated.</exception>
    public IAsyncEnumerable<NbdExtent> BlockStatusAsync(string context, long offset, long length, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(context);
        CheckRange(offset, length);
        foreach (var candidate in _export.Contexts)
        {
            if (candidate.Name == context)
            {
                return WalkAsync(candidate.Id, offset, length, cancellationToken);
            }
        }
        throw new FaultException(FaultReason.Unsupported,
            $"The NBD server at {_connection.Server} did not grant the metadata context '{context}' for this export.");
    }

    /// <summary>
    /// Says goodbye (NBD_CMD_DISC), lets the server answer what is in flight, and closes; waits at most
    /// <see cref="NbdClientOptions.CloseTimeout"/>. Calls that were not sent yet fail. Never throws for the server's sake.
    /// </summary>
    public ValueTask DisposeAsync() => _connection.DisposeAsync();

    private async IAsyncEnumerable<NbdExtent> WalkAsync(
        uint contextId, long offset, long length, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var end = offset + length;
        var reply = new List<NbdExtent>();
        NbdExtent held = default;
        while (offset < end)
        {
            reply.Clear();
            var piece = Math.Min(end - offset, NbdWire.RangeBytesMax);
            await _connection.ExecuteAsync(Operation.BlockStatus(offset, (int)piece, contextId, reply), cancellationToken);
            foreach (var extent in reply)
            {
                if (held.Length > 0 && held.Flags == extent.Flags)
                {
                    held = held with { Length = held.Length + extent.Length };
                    continue;
                }
                if (held.Length > 0)
                {
                    yield return held;
                }
                held = extent;
            }
            offset = held.End;
        }
        if (held.Length > 0)
        {
            yield return held;
        }
    }

    private async ValueTask ReadPiecesAsync(long offset, Memory<byte> destination, CancellationToken cancellationToken)
    {
        for (var done = 0; done < destination.Length;)
        {
            var piece = destination[done..Math.Min(destination.Length, done + BlockSizes.Maximum)];
            await _connection.ExecuteAsync(Operation.Read(offset + done, piece), cancellationToken);
            done += piece.Length;
        }
    }

    private async ValueTask WritePiecesAsync(long offset, ReadOnlyMemory<byte> source, CancellationToken cancellationToken)
    {
        for (var done = 0; done < source.Length;)
        {
            var piece = source[done..Math.Min(source.Length, done + BlockSizes.Maximum)];
            await _connection.ExecuteAsync(Operation.Write(offset + done, piece), cancellationToken);
            done += piece.Length;
        }
    }

    private async ValueTask RangePiecesAsync(NbdCommand command, long offset, long length, CancellationToken cancellationToken)
    {
        for (var end = offset + length; offset < end;)
        {
            var piece = (int)Math.Min(end - offset, NbdWire.RangeBytesMax);
            await _connection.ExecuteAsync(Operation.Range(command, offset, piece), cancellationToken);
            offset += piece;
        }
    }

    private void CheckRange(long offset, long length)
    {
        if (offset < 0 || length < 0 || offset > Size || length > Size - offset)
        {
            throw new FaultException(FaultReason.InvalidArgument,
                $"{length} bytes at offset {offset} do not lie in the export of {Size} bytes at {_connection.Server}.");
        }
        // The last block of an export may be short.
        var mask = BlockSizes.Minimum - 1;
        if ((offset & mask) != 0 || ((length & mask) != 0 && offset + length != Size))
        {
            throw new FaultException(FaultReason.InvalidArgument,
                $"The NBD server at {_connection.Server} takes only multiples of {BlockSizes.Minimum} bytes, not {length} bytes at offset {offset}.");
        }
    }

    private void CheckWritable()
    {
        if (ReadOnly)
        {
            throw new FaultException(FaultReason.Denied, $"The export at {_connection.Server} is read-only.");
        }
    }

    private void Require(bool capability, string what)
    {
        if (!capability)
        {
            throw new FaultException(FaultReason.Unsupported, $"The NBD server at {_connection.Server} cannot {what} on this export.");
        }
    }

    private static void Validate(NbdClientOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentOutOfRangeException.ThrowIfLessThan(options.RequestsInFlightMax, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(options.RequestsInFlightMax, NbdClientOptions.RequestsInFlightLimit);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(options.MetaContexts.Count, NbdClientOptions.MetaContextsLimit);
        Handshake.CheckString(options.ExportName, "export name");
        foreach (var context in options.MetaContexts)
        {
            ArgumentException.ThrowIfNullOrEmpty(context);
            Handshake.CheckString(context, "metadata context");
        }
        if (options.MetaContexts.Distinct().Count() != options.MetaContexts.Count)
        {
            throw new FaultException(FaultReason.InvalidArgument, "A metadata context was asked for twice.");
        }
    }
}
