using System.Threading.Channels;
using Google.Protobuf;
using VirtBackup.Core;
using VirtBackup.Format;
using VirtBackup.Format.Keys;
using VirtBackup.Protocol.Grpc;
using VirtBackup.Protocol.Replication.V1;
using VirtBackup.Protocol.Transport;
using VirtBackup.Repository.Reading;
using Fault = VirtBackup.Protocol.Replication.V1.Fault;
using RecordKind = VirtBackup.Protocol.Replication.V1.RecordKind;

namespace VirtBackup.Controller.Replication.Source;

/// <summary>
/// The answering side of one stream: one loop takes asks in, one answers them in their order. A fault ends an answer, not the
/// stream. Use an instance once.
/// </summary>
internal sealed class AnsweringStream(string peer, IServerDuplex<Ask, Answer> stream, SourceParts parts) : IDisposable
{
    private const int AsksMax = 8;
    private const int ListedPerPart = 128;
    private const int WaitMsMax = 30_000;
    private const int MachinesMax = 1000;
    private const int SkipTakeMax = 2 * RecoveryPointReader.RangesMax;
    private const int NodeIdsMax = 1024;
    private const int MessageCharsMax = 4096;
    private const uint ProtocolVersion = 1;

    private readonly Channel<Ask> _asks = Channel.CreateBounded<Ask>(AsksMax);
    private readonly PointReads _reads = new(parts.Repository);

    /// <summary>Told once, when the first ask has come.</summary>
    public Action? Taken { get; init; }

    /// <summary>Answers until the receiver ends the stream.</summary>
    /// <exception cref="FaultException">The stream broke; <see cref="FaultReason.Denied"/>: the peer was revoked.</exception>
    public async Task RunAsync(CancellationToken cancellationToken)
    {
        using var scope = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var taking = TakeAsync(scope.Token);
        try
        {
            await foreach (var ask in _asks.Reader.ReadAllAsync(scope.Token))
            {
                _ = await parts.Access.RequirePeerAsync(peer, scope.Token);
                await AnswerAsync(ask, scope.Token);
            }
        }
        finally
        {
            await scope.CancelAsync();
            await taking.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing | ConfigureAwaitOptions.ContinueOnCapturedContext);
        }
    }

    public void Dispose() => _reads.Dispose();

    private async Task TakeAsync(CancellationToken cancellationToken)
    {
        await Task.Yield();
        try
        {
            var isFirst = true;
            await foreach (var ask in stream.ReceiveAsync(cancellationToken))
            {
                if (isFirst)
                {
                    isFirst = false;
                    Taken?.Invoke();
                }
                if (!_asks.Writer.TryWrite(ask))
                {
                    throw new FaultException(FaultReason.InvalidArgument, $"At most {AsksMax} asks may be unanswered.");
                }
            }
            _asks.Writer.TryComplete();
        }
        catch (Exception broken)
        {
            _asks.Writer.TryComplete(broken);
        }
    }

    private async ValueTask AnswerAsync(Ask ask, CancellationToken cancellationToken)
    {
        try
        {
            await AnswerPartsAsync(ask, cancellationToken);
        }
        catch (FaultException fault) when (!cancellationToken.IsCancellationRequested)
        {
            var message = new Fault { Reason = FaultStatus.ToReason(fault.Reason), Message = WireText.Shortened(fault.Message, MessageCharsMax) };
            await stream.SendAsync(new Answer { Fault = message, Last = true }, cancellationToken);
            return;
        }
        await stream.SendAsync(new Answer { Last = true }, cancellationToken);
    }

    private ValueTask AnswerPartsAsync(Ask ask, CancellationToken cancellationToken) => ask.AskCase switch
    {
        Ask.AskOneofCase.Hello => HelloAsync(ask.Hello, cancellationToken),
        Ask.AskOneofCase.ListPoints => ListAsync(ask.ListPoints, cancellationToken),
        Ask.AskOneofCase.ReadPoint => ReadPointAsync(WireText.ToId(ask.ReadPoint.PointId, "id of the recovery point"), cancellationToken),
        Ask.AskOneofCase.ReleasePoint => Release(WireText.ToId(ask.ReleasePoint.PointId, "id of the recovery point")),
        Ask.AskOneofCase.ReadNodes => ReadNodesAsync(ask.ReadNodes, cancellationToken),
        Ask.AskOneofCase.ReadRecords => ReadRecordsAsync(ask.ReadRecords, cancellationToken),
        Ask.AskOneofCase.ReadRecord => ReadRecordAsync(ask.ReadRecord, cancellationToken),
        _ => throw new FaultException(FaultReason.Unsupported, "This controller does not know what was asked: it runs another version."),
    };

    private async ValueTask HelloAsync(HelloAsk hello, CancellationToken cancellationToken)
    {
        await parts.NoteHelloAsync(peer, WireText.ToId(hello.RepositoryId, "repository id"), WireText.Bounded(hello.Version, 64, "version"), cancellationToken);
        var answer = new HelloAnswer { RepositoryId = parts.Identity.ControllerId.ToString(), Version = parts.Identity.Version, Protocol = ProtocolVersion };
        await stream.SendAsync(new Answer { Hello = answer }, cancellationToken);
    }

    private async ValueTask ListAsync(ListPointsAsk ask, CancellationToken cancellationToken)
    {
        if (ask.VmIds.Count > MachinesMax || ask.WaitMs > WaitMsMax)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"A listing is of at most {MachinesMax} machines and waits at most {WaitMsMax} ms.");
        }
        var machines = ask.VmIds.Select(static id => WireText.ToId(id, "id of the virtual machine")).ToHashSet();
        var listing = await parts.Listings.FindAsync(peer, machines, ask.ListingId, ask.After, TimeSpan.FromMilliseconds(ask.WaitMs), cancellationToken);
        foreach (var page in listing.Points.Chunk(ListedPerPart))
        {
            var part = new ListPointsAnswer();
            foreach (var point in page)
            {
                part.Points.Add(await parts.Listings.DescribeAsync(point, cancellationToken));
            }
            await stream.SendAsync(new Answer { Points = part }, cancellationToken);
        }
        await stream.SendAsync(new Answer { Points = new ListPointsAnswer { ListingId = listing.Id, Position = listing.Position } }, cancellationToken);
    }

    private async ValueTask ReadPointAsync(Id16 point, CancellationToken cancellationToken)
    {
        _ = await OpenAsync(point, cancellationToken);
        var read = await parts.Repository.Serving.ReadPointAsync(point, cancellationToken);
        for (var at = 0; at < read.Manifest.Length; at += Limits.SliceBytesMax)
        {
            await SendAsync(new PointPart { Manifest = Wrap(read.Manifest.Slice(at, Math.Min(Limits.SliceBytesMax, read.Manifest.Length - at))) }, cancellationToken);
        }
        var recipients = new HashSet<Id16>();
        foreach (var key in read.KeyObjects)
        {
            recipients.Add(KeyObject.Parse(key.Span).Recipient);
            await SendAsync(new PointPart { KeyObject = Wrap(key) }, cancellationToken);
        }
        foreach (var recipient in recipients)
        {
            var name = ObjectKeys.RestoreKey(recipient);
            if (await parts.Store.FindAsync(name, cancellationToken) is not null)
            {
                await SendAsync(new PointPart { KeyringObject = Wrap(await parts.Store.ReadAllAsync(name, WrappedKey.BytesMax, cancellationToken)) }, cancellationToken);
            }
        }
        await SendAsync(new PointPart { AgentPublicKey = Wrap(read.AgentPublicKey) }, cancellationToken);
    }

    private ValueTask Release(Id16 point)
    {
        _reads.Release(point);
        return ValueTask.CompletedTask;
    }

    private async ValueTask ReadNodesAsync(ReadNodesAsk ask, CancellationToken cancellationToken)
    {
        if (ask.Ids.Length == 0 || ask.Ids.Length % Id32.Size != 0 || ask.Ids.Length / Id32.Size > NodeIdsMax)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"An ask is for 1 to {NodeIdsMax} map nodes of {Id32.Size} bytes each.");
        }
        var ids = new Id32[ask.Ids.Length / Id32.Size];
        for (var i = 0; i < ids.Length; i++)
        {
            ids[i] = Id32.Read(ask.Ids.Span[(i * Id32.Size)..]);
        }
        var reader = await OpenAsync(WireText.ToId(ask.PointId, "id of the recovery point"), cancellationToken);
        await SendAsync(reader.ReadNodesAsync(ids, cancellationToken), cancellationToken);
    }

    private async ValueTask ReadRecordsAsync(ReadRecordsAsk ask, CancellationToken cancellationToken)
    {
        if (ask.SkipTake.Count is 0 or > SkipTakeMax || ask.SkipTake.Count % 2 != 0 || ask.SkipTake.Any(static length => length > long.MaxValue / SkipTakeMax))
        {
            throw new FaultException(FaultReason.InvalidArgument, $"An ask is for 1 to {RecoveryPointReader.RangesMax} ranges.");
        }
        var ranges = new List<ByteRange>(ask.SkipTake.Count / 2);
        var at = 0L;
        for (var i = 0; i < ask.SkipTake.Count; i += 2)
        {
            at += (long)ask.SkipTake[i];
            ranges.Add(new ByteRange(at, (long)ask.SkipTake[i + 1]));
            at += (long)ask.SkipTake[i + 1];
        }
        var reader = await OpenAsync(WireText.ToId(ask.PointId, "id of the recovery point"), cancellationToken);
        await SendAsync(reader.ReadRecordsAsync(WireText.ToId(ask.StreamId, "stream id"), ranges, cancellationToken), cancellationToken);
    }

    private async ValueTask ReadRecordAsync(ReadRecordAsk ask, CancellationToken cancellationToken)
    {
        var kind = ask.Kind switch
        {
            RecordKind.Data => Format.Records.RecordKind.Data,
            RecordKind.Map => Format.Records.RecordKind.Map,
            _ => throw new FaultException(FaultReason.InvalidArgument, "A record is of a chunk or of a map node."),
        };
        if (ask.Id.Length != Id32.Size)
        {
            throw new FaultException(FaultReason.InvalidArgument, $"A record's id has {Id32.Size} bytes.");
        }
        var (id, scope) = (Id32.Read(ask.Id.Span), WireText.ToId(ask.ScopeId, "scope id"));
        await parts.Access.RequireRecordAsync(peer, scope, cancellationToken);
        var record = await parts.Repository.Serving.FindRecordAsync(kind, id, scope, cancellationToken)
            ?? throw new FaultException(FaultReason.NotFound, "There is no sound copy of this record here.");
        for (var at = 0; at < record.Length; at += Limits.SliceBytesMax)
        {
            await stream.SendAsync(new Answer { Data = Wrap(record.AsMemory(at, Math.Min(Limits.SliceBytesMax, record.Length - at))) }, cancellationToken);
        }
    }

    /// <exception cref="FaultException"><see cref="FaultReason.Denied"/>: it is of a machine that the peer may not read; <see cref="FaultReason.NotFound"/>.</exception>
    private async ValueTask<RecoveryPointReader> OpenAsync(Id16 point, CancellationToken cancellationToken)
    {
        var info = await parts.Repository.FindPointAsync(point, cancellationToken)
            ?? throw new FaultException(FaultReason.NotFound, $"There is no recovery point {point} here.");
        await parts.Access.RequireMachineAsync(peer, info.Vm, cancellationToken);
        return await _reads.OpenAsync(point, cancellationToken);
    }

    private ValueTask SendAsync(PointPart part, CancellationToken cancellationToken) => stream.SendAsync(new Answer { Point = part }, cancellationToken);

    private async ValueTask SendAsync(IAsyncEnumerable<PooledSlice> slices, CancellationToken cancellationToken)
    {
        await foreach (var slice in slices)
        {
            using (slice)
            {
                // Written into the transport's own buffer before the call returns: the slice is free then.
                await stream.SendAsync(new Answer { Data = Wrap(slice.Memory) }, cancellationToken);
            }
        }
    }

    private static ByteString Wrap(ReadOnlyMemory<byte> bytes) => UnsafeByteOperations.UnsafeWrap(bytes);
}
