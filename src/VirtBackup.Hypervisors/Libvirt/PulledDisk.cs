using System.Runtime.CompilerServices;
using VirtBackup.Core;
using VirtBackup.Nbd;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>One disk of a capture in pull mode, read over NBD.</summary>
internal sealed class PulledDisk : ICapturedDisk, IAsyncDisposable
{
    private readonly NbdClient client;
    private readonly string context;
    private readonly Func<string?> lost;

    private PulledDisk(NbdClient client, string context, DiskSummary disk, bool changedOnly, string reason, string baseToken, Func<string?> lost)
    {
        this.client = client;
        this.context = context;
        this.lost = lost;
        Disk = disk;
        ChangedOnly = changedOnly;
        Reason = reason;
        BaseToken = baseToken;
    }

    public DiskSummary Disk { get; }

    public bool ChangedOnly { get; }

    public string Reason { get; }

    public string BaseToken { get; }

    /// <summary>The export is the whole disk as it was, whatever changed.</summary>
    public ReadReach Reach => ReadReach.Everything;

    /// <param name="lost">Why the view was given up, or null.</param>
    public static async Task<PulledDisk> OpenAsync(
        string socket, DiskSummary disk, bool changedOnly, string reason, string baseToken, Func<string?> lost, LibvirtContext driver, CancellationToken cancellationToken)
    {
        var context = changedOnly ? NbdContexts.QemuDirtyBitmap(BackupDocument.BitmapOf(disk.Name)) : NbdContexts.BaseAllocation;
        var client = await NbdClient.ConnectAsync(NbdEndpoint.Unix(socket), new NbdClientOptions
        {
            ExportName = disk.Name, MetaContexts = [context], RequestsInFlightMax = driver.Options.RequestsInFlight, TimeProvider = driver.Time,
        }, cancellationToken);
        if (client.Size >= disk.LengthBytes && client.Contexts.Contains(context))
        {
            return new PulledDisk(client, context, disk, changedOnly, reason, baseToken, lost);
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
        while (await MoveAsync(extents))
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
        catch (Exception failure) when (Translate(failure) is { } fault)
        {
            throw fault;
        }
    }

    private async ValueTask<bool> MoveAsync(IAsyncEnumerator<NbdExtent> extents)
    {
        try
        {
            return await extents.MoveNextAsync();
        }
        catch (Exception failure) when (Translate(failure) is { } fault)
        {
            throw fault;
        }
    }

    private FaultException? Translate(Exception failure) => failure switch
    {
        NbdErrorException or FaultException { Reason: FaultReason.Unavailable } when lost() is { } reason => new FaultException(FaultReason.SnapshotLost,
            $"The frozen view of disk {Disk.Name} was given up, since {reason}. The guest is unharmed; free space there and run again.", failure),
        NbdErrorException error => new FaultException(FaultReason.SnapshotLost, $"The frozen view of disk {Disk.Name} was lost. The guest is unharmed; run the backup again. ({error.Message})", error),
        FaultException { Reason: FaultReason.Unavailable } => new FaultException(FaultReason.HypervisorUnavailable,
            $"QEMU went away while disk {Disk.Name} was read: the machine stopped, or somebody ended the backup job. Start it, then back it up again. ({failure.Message})", failure),
        _ => null,
    };

    public ValueTask DisposeAsync() => client.DisposeAsync();
}
