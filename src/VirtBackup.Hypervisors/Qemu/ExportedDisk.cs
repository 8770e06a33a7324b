using System.Runtime.CompilerServices;
using VirtBackup.Core;
using VirtBackup.Nbd;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>What a driver says of its exported disks when they fail.</summary>
/// <param name="Socket">Of QEMU's NBD server.</param>
/// <param name="BrokenView">Why a view breaks while its export goes on, and what is to be done.</param>
/// <param name="MachineEnd">How a machine and its exports can end.</param>
internal sealed record ExportTroubles(string Socket, string BrokenView, string MachineEnd)
{
    /// <summary>Why the driver has given the view up; null: it has not.</summary>
    public Func<string?> FindReason { get; init; } = static () => null;
}

/// <summary>One disk of a frozen view that QEMU exports, read over NBD.</summary>
internal sealed class ExportedDisk : ICapturedDisk, IAsyncDisposable
{
    private readonly NbdClient client;
    private readonly string context;
    private readonly ExportTroubles troubles;

    private ExportedDisk(NbdClient client, DiskSummary disk, string context, ExportTroubles troubles)
    {
        this.client = client;
        this.context = context;
        this.troubles = troubles;
        Disk = disk;
    }

    public DiskSummary Disk { get; }

    public bool ChangedOnly { get; private init; }

    public required string Reason { get; init; }

    public required string BaseToken { get; init; }

    public required ReadReach Reach { get; init; }

    /// <param name="bitmap">The dirty bitmap that tells changes; null: what is allocated is read.</param>
    public static async Task<ExportedDisk> OpenAsync(
        string export, DiskSummary disk, string? bitmap, string reason, string baseToken, ReadReach reach, int requestsInFlight, ExportTroubles troubles, TimeProvider time,
        CancellationToken cancellationToken)
    {
        var context = bitmap is null ? NbdContexts.BaseAllocation : NbdContexts.QemuDirtyBitmap(bitmap);
        var client = await NbdClient.ConnectAsync(NbdEndpoint.Unix(troubles.Socket), new NbdClientOptions
        {
            ExportName = export, MetaContexts = [context], RequestsInFlightMax = requestsInFlight, TimeProvider = time,
        }, cancellationToken);
        if (client.Size >= disk.LengthBytes && client.Contexts.Contains(context))
        {
            return new ExportedDisk(client, disk, context, troubles) { ChangedOnly = bitmap is not null, Reason = reason, BaseToken = baseToken, Reach = reach };
        }
        await client.DisposeAsync();
        throw FaultException.Malformed($"QEMU exports disk {disk.Name} with {client.Size} instead of {disk.LengthBytes} bytes, or without its block status '{context}'.");
    }

    public async IAsyncEnumerable<ByteRange> ListExtentsAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        if (Disk.LengthBytes == 0)
        {
            yield break;
        }
        await using var extents = client.BlockStatusAsync(context, 0, Disk.LengthBytes, cancellationToken).GetAsyncEnumerator(cancellationToken);
        ByteRange held = default;
        while (await GuardAsync(() => extents.MoveNextAsync()))
        {
            var extent = extents.Current;
            if (ChangedOnly ? !extent.IsDirty : extent.IsZero)
            {
                continue;
            }
            var joins = held.Length > 0 && held.End == extent.Offset;
            if (held.Length > 0 && !joins)
            {
                yield return held;
            }
            held = joins ? held with { Length = held.Length + extent.Length } : new ByteRange(extent.Offset, extent.Length);
        }
        if (held.Length > 0)
        {
            yield return held;
        }
    }

    public async ValueTask ReadAsync(long offset, Memory<byte> destination, CancellationToken cancellationToken)
    {
        try
        {
            await client.ReadAsync(offset, destination, cancellationToken);
        }
        catch (Exception failure) when (IsTrouble(failure))
        {
            throw await TranslateAsync(failure);
        }
    }

    private async ValueTask<bool> GuardAsync(Func<ValueTask<bool>> step)
    {
        try
        {
            return await step();
        }
        catch (Exception failure) when (IsTrouble(failure))
        {
            throw await TranslateAsync(failure);
        }
    }

    private static bool IsTrouble(Exception failure) => failure is NbdErrorException or FaultException { Reason: FaultReason.Unavailable };

    private async Task<FaultException> TranslateAsync(Exception failure)
    {
        if (troubles.FindReason() is { } reason)
        {
            return new FaultException(FaultReason.SnapshotLost, $"The frozen view of disk {Disk.Name} was given up, since {reason}. The guest is unharmed; free space there and run again.", failure);
        }
        if (failure is NbdErrorException)
        {
            return new FaultException(FaultReason.SnapshotLost, $"The frozen view of disk {Disk.Name} was lost{troubles.BrokenView} ({failure.Message})", failure);
        }
        // A process that ended has closed its sockets before its peers learn of it.
        return new FaultException(FaultReason.HypervisorUnavailable, await JsonLineSocket.IsListeningAsync(troubles.Socket, CancellationToken.None)
            ? $"The connection over which QEMU hands out disk {Disk.Name} was cut while it was read; the machine itself runs on. Back it up again. ({failure.Message})"
            : $"QEMU went away while disk {Disk.Name} was read: {troubles.MachineEnd}. Start it, then back it up again. ({failure.Message})", failure);
    }

    public ValueTask DisposeAsync() => client.DisposeAsync();
}
