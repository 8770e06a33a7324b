using VirtBackup.Core;

namespace VirtBackup.Repository.Collection;

/// <summary>
/// What open sessions and readers rely on, for as long as they live: points as a whole, and objects that a probe called
/// present. It lives in memory: after a restart agents probe again. Safe for concurrent use.
/// </summary>
internal sealed class LiveClaims
{
    private readonly Lock _sync = new();
    private readonly Dictionary<Id16, int> _points = [];
    private readonly HashSet<SessionClaim> _sessions = [];

    /// <summary>The begin of the oldest open session, Unix milliseconds; the largest number when there is none.</summary>
    public long OldestSessionMs
    {
        get
        {
            lock (_sync)
            {
                return _sessions.Count == 0 ? long.MaxValue : _sessions.Min(session => session.BeganMs);
            }
        }
    }

    public bool IsHeld(Id16 point)
    {
        lock (_sync)
        {
            return _points.ContainsKey(point);
        }
    }

    /// <summary>Whether any open session was told that the object of that number is present.</summary>
    public bool IsPinned(long number)
    {
        lock (_sync)
        {
            foreach (var session in _sessions)
            {
                if (session.IsPinned(number))
                {
                    return true;
                }
            }
            return false;
        }
    }

    /// <summary>Keeps a point from being purged until the result is disposed.</summary>
    public IDisposable Hold(Id16 point)
    {
        lock (_sync)
        {
            _points[point] = _points.GetValueOrDefault(point) + 1;
        }
        return new PointHold(this, point);
    }

    /// <summary>Begins a session's claim.</summary>
    /// <param name="nowMs">Records that were stored since then are the session's own or as young.</param>
    /// <param name="basePoint">A point whose nodes the session may share.</param>
    public SessionClaim BeginSession(long nowMs, Id16? basePoint)
    {
        var claim = new SessionClaim(this, nowMs, basePoint is { } point ? Hold(point) : null);
        lock (_sync)
        {
            _sessions.Add(claim);
        }
        return claim;
    }

    internal void End(SessionClaim claim)
    {
        lock (_sync)
        {
            _sessions.Remove(claim);
        }
    }

    private void Release(Id16 point)
    {
        lock (_sync)
        {
            if (--_points[point] == 0)
            {
                _points.Remove(point);
            }
        }
    }

    private sealed class PointHold(LiveClaims claims, Id16 point) : IDisposable
    {
        private int _disposed;

        public void Dispose()
        {
            if (Interlocked.Exchange(ref _disposed, 1) == 0)
            {
                claims.Release(point);
            }
        }
    }
}

/// <summary>
/// One session's claim: a bitmap of the numbers that its probes called present, 1 bit for each in blocks of 64 Ki. Safe for
/// concurrent use.
/// </summary>
internal sealed class SessionClaim(LiveClaims claims, long beganMs, IDisposable? basePoint) : IDisposable
{
    private const int BlockBits = 16;

    private readonly Lock _sync = new();
    private readonly Dictionary<long, ulong[]> _blocks = [];

    /// <summary>Unix milliseconds.</summary>
    public long BeganMs => beganMs;

    public void Pin(IReadOnlyList<long> numbers)
    {
        lock (_sync)
        {
            foreach (var number in numbers)
            {
                if (!_blocks.TryGetValue(number >> BlockBits, out var block))
                {
                    _blocks.Add(number >> BlockBits, block = new ulong[(1 << BlockBits) / 64]);
                }
                block[(number >> 6) & ((1 << (BlockBits - 6)) - 1)] |= 1UL << (int)(number & 63);
            }
        }
    }

    public bool IsPinned(long number)
    {
        lock (_sync)
        {
            return _blocks.TryGetValue(number >> BlockBits, out var block)
                && (block[(number >> 6) & ((1 << (BlockBits - 6)) - 1)] & (1UL << (int)(number & 63))) != 0;
        }
    }

    public void Dispose()
    {
        claims.End(this);
        basePoint?.Dispose();
    }
}
