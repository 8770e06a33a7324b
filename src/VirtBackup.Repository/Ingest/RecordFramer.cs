using System.Buffers;
using VirtBackup.Core;
using VirtBackup.Format.Maps;
using VirtBackup.Format.Records;

namespace VirtBackup.Repository.Ingest;

/// <summary>
/// Cuts a byte stream into records, however it is sliced, and checks each against the lane's rules. Keeps at most one
/// header, and of map lanes one node. Not safe for concurrent use.
/// </summary>
internal sealed class RecordFramer(RecordKind kind, Id16 scope, ushort? idGeneration) : IDisposable
{
    private readonly byte[] _header = new byte[RecordHeader.Size];
    private RecordHeader _current;
    private byte[]? _node;
    private int _headerFill;
    private int _payloadFill;
    private bool _inPayload;

    /// <summary>True between a record's first and last byte.</summary>
    public bool IsInsideRecord => _inPayload || _headerFill > 0;

    /// <summary>Set by the lane for a record that it does not store; cleared when the next one begins.</summary>
    public bool IsDuplicate { get; set; }

    /// <summary>Takes one step into <paramref name="slice"/>: at most to the end of a header or of a payload.</summary>
    /// <param name="slice">The next bytes, at least one.</param>
    /// <param name="offset">Where they are in the lane, for messages.</param>
    public Step Take(ReadOnlyMemory<byte> slice, long offset) => _inPayload ? TakePayload(slice, offset) : TakeHeader(slice, offset);

    public void Reset()
    {
        (_inPayload, _headerFill, _payloadFill, IsDuplicate) = (false, 0, 0, false);
        ReturnNode();
    }

    public void Dispose() => ReturnNode();

    private Step TakeHeader(ReadOnlyMemory<byte> slice, long offset)
    {
        var count = Math.Min(RecordHeader.Size - _headerFill, slice.Length);
        slice.Span[..count].CopyTo(_header.AsSpan(_headerFill));
        _headerFill += count;
        if (_headerFill < RecordHeader.Size)
        {
            return new Step(count);
        }
        _current = Validate(offset + count - RecordHeader.Size);
        (_inPayload, _headerFill, _payloadFill, IsDuplicate) = (true, 0, 0, false);
        if (kind == RecordKind.Map)
        {
            // A node is written only once it has been checked.
            if (_node is null || _node.Length < _current.SealedLength)
            {
                ReturnNode();
                _node = ArrayPool<byte>.Shared.Rent(_current.SealedLength);
            }
            return new Step(count) { Begun = _current };
        }
        return new Step(count) { Begun = _current, First = _header };
    }

    private Step TakePayload(ReadOnlyMemory<byte> slice, long offset)
    {
        var count = Math.Min(_current.SealedLength - _payloadFill, slice.Length);
        if (_node is not null)
        {
            slice.Span[..count].CopyTo(_node.AsSpan(_payloadFill));
        }
        _payloadFill += count;
        var isWhole = _payloadFill == _current.SealedLength;
        if (!isWhole)
        {
            return _node is null ? new Step(count) { First = slice[..count] } : new Step(count);
        }
        _inPayload = false;
        if (_node is null)
        {
            return new Step(count) { First = slice[..count], Completed = _current };
        }
        var node = _node.AsMemory(0, _current.SealedLength);
        ValidateNode(node, offset + count - _current.RecordLength);
        return new Step(count) { First = _header, Second = node, Completed = _current };
    }

    private RecordHeader Validate(long at)
    {
        RecordHeader header;
        try
        {
            header = RecordHeader.Parse(_header);
        }
        catch (FaultException fault)
        {
            throw new FaultException(fault.Reason, $"At byte {at} of the upload lane: {fault.Message}", fault);
        }
        if (header.Kind != kind)
        {
            throw FaultException.Malformed($"At byte {at} of the upload lane: a {Name(header.Kind)} record came on the {Name(kind)} lane.");
        }
        if (kind == RecordKind.Data && (header.Scope != scope || (idGeneration is { } only && header.IdGeneration != only)))
        {
            throw new FaultException(
                FaultReason.Denied,
                $"At byte {at} of the upload lane: the record is for scope {header.Scope} generation {header.IdGeneration}, this session writes scope {scope} generation {idGeneration}.");
        }
        return header;
    }

    private void ValidateNode(ReadOnlyMemory<byte> node, long at)
    {
        try
        {
            NodeId.Require(node.Span, _current.Id);
            if (MapNodeHead.Parse(node.Span).Kind == MapNodeKind.Leaf)
            {
                MapLeaf.Parse(node);
            }
            else
            {
                MapInner.Parse(node);
            }
        }
        catch (FaultException fault)
        {
            throw new FaultException(FaultReason.Malformed, $"At byte {at} of the upload lane: {fault.Message}", fault);
        }
    }

    private static string Name(RecordKind recordKind) => recordKind == RecordKind.Data ? "data" : "map";

    private void ReturnNode()
    {
        if (_node is not null)
        {
            ArrayPool<byte>.Shared.Return(_node);
            _node = null;
        }
    }

    /// <summary>What one step found.</summary>
    /// <param name="Consumed">Bytes of the slice that it took.</param>
    public readonly record struct Step(int Consumed)
    {
        /// <summary>The record whose header became whole in this step.</summary>
        public RecordHeader? Begun { get; init; }

        /// <summary>Bytes to store, valid until the next step.</summary>
        public ReadOnlyMemory<byte> First { get; init; }

        /// <summary>Bytes to store behind <see cref="First"/>, valid until the next step.</summary>
        public ReadOnlyMemory<byte> Second { get; init; }

        /// <summary>The record that became whole in this step.</summary>
        public RecordHeader? Completed { get; init; }
    }
}
