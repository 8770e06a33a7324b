using CsCheck;
using VirtBackup.Core;
using VirtBackup.Nbd.Wire;
using static VirtBackup.Nbd.Tests.FakeServer;

namespace VirtBackup.Nbd.Tests;

[CollectionDefinition(nameof(Alone), DisableParallelization = true)]
public sealed class Alone;

/// <summary>Damaged server streams: every call ends, with an expected failure at worst, in bounded memory.</summary>
[Collection(nameof(Alone))]
public sealed class FuzzTests
{
    private const int ReadBytes = 3000;
    private const long AllocationMax = 16 << 20;
    private static readonly byte[] Content = [.. Enumerable.Range(0, ReadBytes).Select(index => (byte)((index * 7) + 1))];
    private static readonly NbdClientOptions Options = new() { MetaContexts = [Context], CloseTimeout = TimeSpan.FromMilliseconds(1) };

    private static readonly byte[] HandshakeBytes =
    [
        .. UInt64(NbdWire.ServerMagic), .. UInt64(NbdWire.OptionMagic), .. UInt16(3),
        .. OptionReply(NbdWire.OptionStructuredReply, NbdWire.ReplyAck),
        .. OptionReply(NbdWire.OptionSetMetaContext, NbdWire.ReplyMetaContext, [.. UInt32(ContextId), .. "base:allocation"u8]),
        .. OptionReply(NbdWire.OptionSetMetaContext, NbdWire.ReplyAck),
        .. OptionReply(NbdWire.OptionGo, NbdWire.ReplyInfo, ExportInfo(FakeServer.Size, 0x6d)),
        .. OptionReply(NbdWire.OptionGo, NbdWire.ReplyInfo, [.. UInt16(NbdWire.InfoBlockSize), .. UInt32(1), .. UInt32(4096), .. UInt32(32 << 20)]),
        .. OptionReply(NbdWire.OptionGo, NbdWire.ReplyAck),
    ];

    /// <summary>Replies to a read of <see cref="Content"/> at 0, a failing read, a block status and a flush, in that order of slots.</summary>
    private static Gen<byte[]> Replies { get; } =
        from cuts in Gen.Int[1, ReadBytes - 1].HashSet[0, 5]
        from shuffle in Gen.Shuffle(Enumerable.Range(0, cuts.Count + 1).ToArray())
        from order in Gen.Shuffle(new[] { 0, 1, 2, 3 })
        select Enumerable.SelectMany(order, slot => slot switch
        {
            0 => [.. shuffle.SelectMany(piece => Piece([0, .. cuts.Order(), ReadBytes], piece)), .. None(Cookie(0))],
            1 => [.. Data(Cookie(1), 0, new byte[100]), .. Error(Cookie(1), NbdError.InputOutput, "no luck", 50)],
            2 => Status(Cookie(2), ContextId, true, (1000, 3), (1000, 0), (5000, 1)),
            _ => Simple(Cookie(3), 0),
        }).ToArray();

    private static Gen<Func<byte[], byte[]>> Mutation { get; } = Gen.Select(Gen.Int[0, 5], Gen.Double[0, 1], Gen.Int[1, 40], Gen.Byte.Array[40])
        .Select(m => new Func<byte[], byte[]>(bytes => Mutate(bytes, m.Item1, (int)(m.Item2 * bytes.Length), m.Item3, m.Item4)));

    [Fact]
    public void UndamagedStreamsAreUnderstood() =>
        Replies.Sample(replies =>
        {
            var buffer = new byte[ReadBytes];
            var outcome = Play(HandshakeBytes, replies, buffer);
            Assert.Equal(["opened", "read", "EIO", "status", "flushed"], outcome);
            Assert.Equal(Content, buffer);
        }, iter: 2000);

    [Fact]
    public void DamagedStreamsEndInExpectedFailures() =>
        Gen.Select(Replies, Mutation.Array[1, 4], Gen.Bool).Sample((replies, mutations, earlier) =>
        {
            var handshake = earlier ? mutations.Aggregate(HandshakeBytes, (bytes, mutate) => mutate(bytes)) : HandshakeBytes;
            var damaged = earlier ? replies : mutations.Aggregate(replies, (bytes, mutate) => mutate(bytes));
            var before = GC.GetTotalAllocatedBytes();
            Play(handshake, damaged, new byte[ReadBytes]);
            Assert.InRange(GC.GetTotalAllocatedBytes() - before, 0, AllocationMax);
        }, iter: 20_000, threads: 1);

    /// <summary>What became of each call; anything but an expected failure is thrown.</summary>
    private static List<string> Play(byte[] handshake, byte[] replies, byte[] buffer)
    {
        var stream = new ScriptedStream(handshake, replies);
        return PlayAsync(stream, buffer).WaitAsync(TimeSpan.FromSeconds(30)).GetAwaiter().GetResult();
    }

    private static async Task<List<string>> PlayAsync(ScriptedStream stream, byte[] buffer)
    {
        var outcome = new List<string>();
        var opening = NbdClient.OpenAsync(stream, Options, CancellationToken.None);
        if (!opening.IsCompleted)
        {
            // The handshake is so damaged that it swallows the replies.
            stream.Release();
        }
        NbdClient? client = null;
        await NoteAsync(async () =>
        {
            client = await opening;
            return "opened";
        });
        if (client is null)
        {
            return outcome;
        }
        await using (client)
        {
            Task<string>[] calls =
            [
                CallAsync(async () => await client.ReadAsync(0, buffer, default), "read"),
                CallAsync(async () => await client.ReadAsync(0, new byte[500], default), "read"),
                CallAsync(async () => await client.BlockStatusAsync(Context, 0, 6000, default).ToListAsync(), "status"),
                CallAsync(async () => await client.FlushAsync(default), "flushed"),
            ];
            stream.Release();
            foreach (var call in calls)
            {
                await NoteAsync(() => call);
            }
        }
        return outcome;

        async Task NoteAsync(Func<Task<string>> call)
        {
            try
            {
                outcome.Add(await call());
            }
            catch (NbdErrorException failure)
            {
                outcome.Add(failure.Error == NbdError.InputOutput ? "EIO" : "error");
            }
            catch (FaultException failure) when (failure.Reason != FaultReason.Unspecified)
            {
                outcome.Add(failure.Reason.ToString());
            }
        }
    }

    private static async Task<string> CallAsync(Func<Task> call, string success)
    {
        await call();
        return success;
    }

    private static ulong Cookie(int slot) => (1UL << 32) | (uint)slot;

    private static byte[] Piece(int[] cuts, int index) => Data(Cookie(0), cuts[index], Content[cuts[index]..cuts[index + 1]]);

    private static byte[] Mutate(byte[] bytes, int kind, int at, int count, byte[] noise)
    {
        var end = Math.Min(bytes.Length, at + count);
        switch (kind)
        {
            case 0 when at < bytes.Length:
                var flipped = bytes.ToArray();
                flipped[at] ^= (byte)(1 << (count % 8));
                return flipped;
            case 1:
                return [.. bytes[..at], .. noise[..(end - at)], .. bytes[end..]];
            case 2:
                return [.. bytes[..at], .. bytes[end..]];
            case 3:
                return [.. bytes[..end], .. bytes[at..]];
            case 4:
                return [.. bytes[..at], .. noise[..count], .. bytes[at..]];
            default:
                return bytes[..at];
        }
    }

    /// <summary>A server that says what it was told to, whatever it hears: the handshake at once, the replies when released, then the end.</summary>
    private sealed class ScriptedStream(byte[] handshake, byte[] replies) : Stream
    {
        private readonly TaskCompletionSource _released = new();
        private int _position;

        public override bool CanRead => true;
        public override bool CanWrite => true;
        public override bool CanSeek => false;
        public override long Length => throw new NotSupportedException();
        public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

        public void Release() => _released.TrySetResult();

        public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            if (_position >= handshake.Length)
            {
                await _released.Task.WaitAsync(cancellationToken);
            }
            var rest = _position < handshake.Length ? handshake.AsMemory(_position) : replies.AsMemory(_position - handshake.Length);
            var count = Math.Min(rest.Length, buffer.Length);
            rest[..count].CopyTo(buffer);
            _position += count;
            return count;
        }

        public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default) => ValueTask.CompletedTask;
        public override Task FlushAsync(CancellationToken cancellationToken) => Task.CompletedTask;
        public override void Flush() => throw new NotSupportedException();
        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();
        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();
        public override void SetLength(long value) => throw new NotSupportedException();
    }
}
