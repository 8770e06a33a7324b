using System.Buffers;
using System.Diagnostics;

namespace VirtBackup.Testing.Links;

/// <summary>How packets fare on a link now.</summary>
/// <param name="Delay">One way.</param>
/// <param name="Loss">Share of the packets that are lost by chance, [0, 1].</param>
/// <param name="IsCut">Nothing passes, and what is under way is lost.</param>
internal sealed record LinkState(TimeSpan Delay, double Loss, bool IsCut);

/// <summary>One direction of a link: a thread that takes packets from one device and hands them, later, to another.</summary>
internal sealed class PacketLane : IDisposable
{
    private const int BytesUnderWayMax = 64 << 20;
    private const int ReadsInARow = 64;
    private static readonly TimeSpan WaitMax = TimeSpan.FromMilliseconds(20);
    private readonly TunDevice _from;
    private readonly TunDevice _to;
    private readonly Func<LinkState> _state;
    private readonly Random _random;
    private readonly Queue<(long Due, byte[] Packet, int Length)> _underWay = new();
    private readonly byte[] _arriving = new byte[PacketHeader.Bytes + (64 << 10)];
    private readonly Thread _thread;
    private readonly Lock _gate = new();
    private LinkTraffic _traffic;
    private int _bytesUnderWay;
    private volatile bool _isOver;

    public PacketLane(TunDevice from, TunDevice to, Func<LinkState> state, Random random)
    {
        (_from, _to, _state, _random) = (from, to, state, random);
        _thread = new Thread(Forward) { IsBackground = true };
        _thread.Start();
    }

    public LinkTraffic Traffic
    {
        get { lock (_gate) return _traffic; }
    }

    public void Dispose()
    {
        _isOver = true;
        _thread.Join();
    }

    private void Forward()
    {
        while (!_isOver)
        {
            var state = _state();
            Deliver(state);
            if (!Collect(state))
            {
                KernelCalls.AwaitPacket(_from.Handle, UntilNext());
            }
        }
    }

    private TimeSpan UntilNext()
    {
        if (!_underWay.TryPeek(out var next)) return WaitMax;
        var wait = Stopwatch.GetElapsedTime(Stopwatch.GetTimestamp(), next.Due);
        return wait < TimeSpan.Zero ? TimeSpan.Zero : wait < WaitMax ? wait : WaitMax;
    }

    private void Deliver(LinkState state)
    {
        while (_underWay.TryPeek(out var packet) && (state.IsCut || packet.Due <= Stopwatch.GetTimestamp()))
        {
            _underWay.Dequeue();
            _bytesUnderWay -= packet.Length;
            if (!state.IsCut) KernelCalls.WritePacket(_to.Handle, packet.Packet, packet.Length);
            ArrayPool<byte>.Shared.Return(packet.Packet);
        }
    }

    /// <returns>Whether there may be more.</returns>
    private bool Collect(LinkState state)
    {
        for (var reads = 0; reads < ReadsInARow; reads++)
        {
            var length = KernelCalls.ReadPacket(_from.Handle, _arriving);
            if (length == 0) return false;
            if (state.IsCut || _bytesUnderWay + length > BytesUnderWayMax) continue;
            var isLost = state.Loss > 0 && _random.NextDouble() < state.Loss;
            var traffic = PacketHeader.TrafficOf(_arriving.AsSpan(0, length));
            lock (_gate) _traffic += isLost ? traffic with { Lost = traffic.Packets } : traffic;
            if (isLost) continue;
            var packet = ArrayPool<byte>.Shared.Rent(length);
            _arriving.AsSpan(0, length).CopyTo(packet);
            _underWay.Enqueue((Stopwatch.GetTimestamp() + (long)(state.Delay.TotalSeconds * Stopwatch.Frequency), packet, length));
            _bytesUnderWay += length;
        }
        return true;
    }
}
