using System.Runtime.CompilerServices;
using System.Threading.Channels;
using VirtBackup.Core;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Records;
using VirtBackup.Protocol.Store.V1;
using VirtBackup.Protocol.Transport;
using RecordKind = VirtBackup.Format.Records.RecordKind;

namespace VirtBackup.Agent.Tests.Fakes;

internal sealed class FakeSession(string id, BeginSessionRequest request, FakeStore store)
{
    public string Id => id;
    public BeginSessionRequest Request => request;
    public FakeLane[] Lanes { get; } = [new FakeLane(0, store), new FakeLane(1, store)];

    public void Rewind()
    {
        foreach (var lane in Lanes)
        {
            lane.Rewind(null);
        }
    }
}

/// <summary>A lane of a session. Guarded by the store's gate.</summary>
internal sealed class FakeLane(uint number, FakeStore store)
{
    private readonly MemoryStream _pending = new();
    private long _durable;
    private FakeUpload? _stream;

    public LaneState State => new() { Lane = number, DurableOffset = (ulong)_durable, CreditOffset = (ulong)(_durable + store.Faults.CreditBytes) };

    /// <summary>A new stream, or none, takes over at the durable offset.</summary>
    public void Rewind(FakeUpload? next)
    {
        if (_stream != next)
        {
            _stream?.Break(new FaultException(FaultReason.SessionExpired, "The session is over."));
        }
        _stream = next;
        _pending.SetLength(0);
    }

    public void Append(ulong offset, ReadOnlySpan<byte> data)
    {
        Assert.Equal(_durable + _pending.Length, (long)offset);
        Assert.InRange(data.Length, 0, Limits.SliceBytesMax);
        Assert.True(_pending.Length + data.Length <= store.Faults.CreditBytes, "More was sent than the credit.");
        _pending.Write(data);
    }

    public bool WantsFlush => _pending.Length >= store.Faults.DurableAtBytes;

    public void MakeDurable()
    {
        var bytes = _pending.ToArray();
        var position = 0;
        while (bytes.Length - position >= RecordHeader.Size)
        {
            var header = RecordHeader.Parse(bytes.AsSpan(position));
            if (bytes.Length - position < header.RecordLength)
            {
                break;
            }
            var record = bytes.AsSpan(position, header.RecordLength).ToArray();
            if (number == 0)
            {
                Assert.Equal(RecordKind.Data, header.Kind);
                store.DataRecords.Add(header.Id);
                store.Chunks.TryAdd(header.Id, record);
            }
            else
            {
                NodeId.Require(record.AsSpan(RecordHeader.Size), header.Id);
                store.NodeRecords.Add(header.Id);
                store.Nodes.TryAdd(header.Id, record[RecordHeader.Size..]);
            }
            position += header.RecordLength;
        }
        _durable += position;
        _pending.SetLength(0);
        _pending.Write(bytes.AsSpan(position));
    }
}

internal sealed class FakeUpload(FakeStore store, long breakAfter) : IDuplex<UploadRecordsRequest, UploadRecordsResponse>
{
    private readonly Channel<UploadRecordsResponse> _answers = Channel.CreateUnbounded<UploadRecordsResponse>();
    private FakeLane? _lane;
    private FaultException? _broken;
    private long _left = breakAfter;

    public async ValueTask SendAsync(UploadRecordsRequest message, CancellationToken cancellationToken)
    {
        await Task.Yield();
        cancellationToken.ThrowIfCancellationRequested();
        lock (store.Gate)
        {
            if (_broken is not null)
            {
                throw _broken;
            }
            try
            {
                Take(message);
            }
            catch (FaultException fault)
            {
                Break(fault);
                throw;
            }
        }
    }

    public ValueTask CompleteAsync()
    {
        lock (store.Gate)
        {
            if (_broken is not null)
            {
                throw _broken;
            }
            _lane!.MakeDurable();
            _answers.Writer.TryWrite(new UploadRecordsResponse { State = _lane.State });
            _answers.Writer.TryComplete();
        }
        return ValueTask.CompletedTask;
    }

    public async IAsyncEnumerable<UploadRecordsResponse> ReceiveAsync([EnumeratorCancellation] CancellationToken cancellationToken)
    {
        await foreach (var answer in _answers.Reader.ReadAllAsync(cancellationToken))
        {
            yield return answer;
        }
    }

    public void Break(FaultException fault)
    {
        _broken ??= fault;
        _answers.Writer.TryComplete(fault);
    }

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;

    private void Take(UploadRecordsRequest message)
    {
        if (_lane is null)
        {
            _lane = store.Require(message.SessionId).Lanes[message.Lane];
            _lane.Rewind(this);
            _answers.Writer.TryWrite(new UploadRecordsResponse { State = _lane.State });
        }
        if (message.Data.Length > 0)
        {
            _lane.Append(message.Offset, message.Data.Span);
            _left -= message.Data.Length;
        }
        if (_left < 0)
        {
            if (store.Faults.LoseAcks)
            {
                _lane.MakeDurable();
            }
            if (store.Faults.ForgetOnBreak)
            {
                store.ForgetSessions();
            }
            throw FakeFaults.Unavailable();
        }
        if (message.Flush)
        {
            store.Faults.FlushesAsked++;
        }
        if (message.Flush || _lane.WantsFlush)
        {
            _lane.MakeDurable();
            _answers.Writer.TryWrite(new UploadRecordsResponse { State = _lane.State });
        }
    }
}
