using System.Runtime.InteropServices;
using VirtBackup.Core;

namespace VirtBackup.Catalog.Retention;

/// <summary>What a simulation assumes of the time to come. Times are Unix milliseconds.</summary>
public sealed record SimulationAssumptions
{
    /// <summary>Steps that are enough for years of hourly points.</summary>
    public const int StepsMaxDefault = 50_000;

    /// <summary>Looks at single points, all steps together: a bound for rules that keep very many.</summary>
    public const long LooksMax = 50_000_000;

    /// <summary>Ten years of 365 days.</summary>
    public const long IntervalMsMax = 3650L * 24 * 3_600_000;

    public required long NowMs { get; init; }

    /// <summary>A further point follows the latest one after each such interval; 0: none follows.</summary>
    public long IntervalMs { get; init; }

    /// <summary>Each further point is verified as it is made.</summary>
    public bool FurtherAreVerified { get; init; }

    /// <summary>Nothing is looked at beyond this time.</summary>
    public long EndMs { get; init; } = long.MaxValue;

    /// <summary>Moments that are looked at, at most.</summary>
    public int StepsMax { get; init; } = StepsMaxDefault;
}

/// <summary>What becomes of a point that exists now.</summary>
/// <param name="Verdict">At the simulation's beginning.</param>
/// <param name="ExpiresMs">When it goes; null: not up to the simulation's end.</param>
public sealed record SimulatedPoint(RetentionVerdict Verdict, long? ExpiresMs);

/// <summary>A simulation's outcome.</summary>
/// <param name="Points">Those that exist now, newest first.</param>
/// <param name="EndMs">Up to which time it looked.</param>
/// <param name="Settled">Nothing could change any more at that time: what is left stays, unless somebody acts.</param>
/// <param name="PointsAtEnd">How many points there are then, further ones included.</param>
public sealed record Simulation(IReadOnlyList<SimulatedPoint> Points, long EndMs, bool Settled, int PointsAtEnd);

/// <summary>
/// Says when points go, by evaluating at each moment at which anything can change: when a further point arrives, a lock
/// ends, or a time that lay ahead has come. Holds, uses and verdicts of verifications stay as they are.
/// </summary>
public static class RetentionSimulator
{
    public static Simulation Run(RetentionRules rules, IEnumerable<RetentionPoint> points, SimulationAssumptions assumed)
    {
        ArgumentNullException.ThrowIfNull(rules);
        ArgumentNullException.ThrowIfNull(assumed);
        Check.That(assumed.IntervalMs is >= 0 and <= SimulationAssumptions.IntervalMsMax && assumed.StepsMax <= SimulationAssumptions.StepsMaxDefault);
        var verdicts = RetentionEvaluation.Run(rules, points, assumed.NowMs);
        var expired = new Dictionary<Id16, long>();
        var alive = verdicts.Select(static verdict => verdict.Point).ToList();
        var watched = alive.Select(static point => point.Id).ToHashSet();
        Expire(rules, alive, assumed.NowMs, expired);
        var (now, settled) = (assumed.NowMs, rules.IsEmpty);
        var arrives = FirstArrival(alive, assumed);
        var looks = 0L;
        for (var step = 0; !settled && step < assumed.StepsMax && looks < SimulationAssumptions.LooksMax && watched.Count > expired.Count; step++)
        {
            looks += alive.Count;
            var next = Math.Min(arrives ?? long.MaxValue, NextChange(alive, now));
            settled = next == long.MaxValue;
            if (settled || next > assumed.EndMs)
            {
                now = settled ? now : assumed.EndMs;
                break;
            }
            now = next;
            if (now == arrives)
            {
                var further = new RetentionPoint(FurtherId(step), now, assumed.FurtherAreVerified);
                var place = alive.BinarySearch(further, RetentionEvaluation.NewestFirst);
                alive.Insert(place < 0 ? ~place : place, further);
                arrives = now + assumed.IntervalMs;
            }
            Expire(rules, alive, now, expired, watched);
        }
        return new Simulation([.. verdicts.Select(verdict => new SimulatedPoint(verdict, Find(expired, verdict.Point.Id)))], now, settled, alive.Count);
    }

    private static long? FirstArrival(List<RetentionPoint> alive, SimulationAssumptions assumed)
    {
        if (assumed.IntervalMs == 0)
        {
            return null;
        }
        var index = alive.FindIndex(point => point.TimeMs <= assumed.NowMs);
        var latest = index < 0 ? assumed.NowMs : alive[index].TimeMs;
        return latest + (((assumed.NowMs - latest) / assumed.IntervalMs) + 1) * assumed.IntervalMs;
    }

    private static long NextChange(List<RetentionPoint> alive, long now)
    {
        var next = long.MaxValue;
        foreach (var point in alive)
        {
            if (point.TimeMs > now)
            {
                next = Math.Min(next, point.TimeMs);
            }
            if (point.LockedUntilMs > now)
            {
                next = Math.Min(next, point.LockedUntilMs);
            }
        }
        return next;
    }

    private static void Expire(RetentionRules rules, List<RetentionPoint> alive, long now, Dictionary<Id16, long> expired, HashSet<Id16>? watched = null)
    {
        Span<int> causes = alive.Count <= 512 ? stackalloc int[alive.Count] : new int[alive.Count];
        RetentionEvaluation.Mark(rules, CollectionsMarshal.AsSpan(alive), now, causes);
        var kept = 0;
        for (var i = 0; i < causes.Length; i++)
        {
            if (causes[i] != 0)
            {
                alive[kept++] = alive[i];
            }
            else if (watched?.Contains(alive[i].Id) ?? true)
            {
                expired.Add(alive[i].Id, now);
            }
        }
        alive.RemoveRange(kept, alive.Count - kept);
    }

    /// <summary>Of a further point; the greatest ids, so that a real one is hardly met.</summary>
    private static Id16 FurtherId(int step)
    {
        Span<byte> bytes = stackalloc byte[Id16.Size];
        bytes.Fill(0xff);
        System.Buffers.Binary.BinaryPrimitives.WriteInt32BigEndian(bytes[^4..], step);
        return Id16.Read(bytes);
    }

    private static long? Find(Dictionary<Id16, long> expired, Id16 id) => expired.TryGetValue(id, out var at) ? at : null;
}
