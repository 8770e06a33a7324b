using System.Runtime.CompilerServices;
using VirtBackup.Core;
using VirtBackup.Nbd;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>One disk of a frozen view, read over NBD.</summary>
internal sealed class QemuCapturedDisk : ICapturedDisk, IAsyncDisposable
{
    private readonly NbdClient client;
    private readonly string context;

    private QemuCapturedDisk(NbdClient client, DiskSummary disk, string context, bool changedOnly, string reason, string baseToken, ReadReach reach)
    {
        this.client = client;
        this.context = context;
        Disk = disk;
        ChangedOnly = changedOnly;
        Reason = reason;
        BaseToken = baseToken;
        Reach = reach;
    }

    public DiskSummary Disk { get; }

    public bool ChangedOnly { get; }

    public string Reason { get; }

    public string BaseToken { get; }

    public ReadReach Reach { get; }

    public static async Task<QemuCapturedDisk> OpenAsync(
        string socket, string export, DiskSummary disk, TrackingBitmap? changes, string reason, TrackingName tracking, ReadReach reach, QemuOptions options, TimeProvider time,
        CancellationToken cancellationToken)
    {
        var context = changes is null ? NbdContexts.BaseAllocation : NbdContexts.QemuDirtyBitmap(changes.Name.ToString());
        var client = await NbdClient.ConnectAsync(NbdEndpoint.Unix(socket), new NbdClientOptions
        {
            ExportName = export, MetaContexts = [context], RequestsInFlightMax = options.RequestsInFlight, TimeProvider = time,
        }, cancellationToken);
        if (client.Size >= disk.LengthBytes && client.Contexts.Contains(context))
        {
            return new QemuCapturedDisk(client, disk, context, changes is not null, reason, tracking.ToString(), reach);
        }
        await client.DisposeAsync();
        throw FaultException.Malformed($"QEMU exports disk {disk.Name} with {client.Size} instead of {disk.LengthBytes} bytes, or without its block status '{context}'.");
    }

    public async IAsyncEnumerable<ByteRange> ListExtentsAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        await using var extents = client.BlockStatusAsync(context, 0, Disk.LengthBytes, cancellationToken).GetAsyncEnumerator(cancellationToken);
        ByteRange held = default;
        while (await MoveAsync(extents))
        {
            var extent = extents.Current;
            if (ChangedOnly ? !extent.IsDirty : extent.IsZero)
            {
                continue;
            }
            if (held.Length > 0 && held.End == extent.Offset)
            {
                held = held with { Length = held.Length + extent.Length };
                continue;
            }
            if (held.Length > 0)
            {
                yield return held;
            }
            held = new ByteRange(extent.Offset, extent.Length);
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
        NbdErrorException error => new FaultException(FaultReason.SnapshotLost,
            $"The frozen view of disk {Disk.Name} was lost: the fleece folder is full or too slow to keep what the guest overwrites. The guest is unharmed; "
            + $"free space in the fleece folder and run again. ({error.Message})", error),
        FaultException { Reason: FaultReason.Unavailable } lost => new FaultException(FaultReason.HypervisorUnavailable,
            $"QEMU went away while disk {Disk.Name} was read: the machine stopped or was killed. Start it, then back it up again. ({lost.Message})", lost),
        _ => null,
    };

    public ValueTask DisposeAsync() => client.DisposeAsync();
}
