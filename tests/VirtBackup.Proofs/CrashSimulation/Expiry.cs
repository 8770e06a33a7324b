using Google.Protobuf.WellKnownTypes;
using VirtBackup.Controller;
using VirtBackup.Core;
using VirtBackup.Proofs.Installation;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.CrashSimulation;

/// <summary>The rule by which points expire, and which of them it lets go.</summary>
/// <param name="Last">So many newest points of a machine stay.</param>
/// <param name="Days">The newest point of each of so many days that have one stays.</param>
internal sealed record Expiry(int Last, int Days)
{
    private const string Name = "usual";
    private const long DayMs = 86_400_000;

    /// <summary>Gives all machines the rule, by the time that an operator confirms, and has the controller apply it.</summary>
    /// <returns>What has expired.</returns>
    public async Task<List<Id16>> ApplyAsync(OwnJobRunner jobs, TimeProvider time)
    {
        var result = await jobs.RunAsync(async role =>
        {
            await role.Retention.ConfirmTimeAsync(new ConfirmTimeRequest { OperatorTime = Timestamp.FromDateTimeOffset(time.GetUtcNow()) }, CancellationToken.None);
            var rules = new RetentionRules { KeepLast = (uint)Last, KeepDaily = (uint)Days };
            await role.Retention.SetRuleSetAsync(new SetRuleSetRequest { Name = Name, Rules = rules, Default = SetRuleSetRequest.Types.Default.Yes }, CancellationToken.None);
            return (await role.Retention.StartRetentionAsync(new StartRetentionRequest(), CancellationToken.None)).Job;
        });
        return [.. result.Retention.Expired.Select(point => Id16.Parse(point.PointId))];
    }

    /// <summary>Proves that while nothing else goes on exactly those points expire that the rule lets go, and that no job uses.</summary>
    public async Task RequireRightAsync(ControllerRole role, Census before, IReadOnlyList<Id16> expired)
    {
        var due = before.Points.Values.GroupBy(manifest => manifest.Head.Vm).SelectMany(machine => DueOf([.. machine.Select(manifest => (manifest.Head.CreatedMs, manifest.Head.Point))])).ToHashSet();
        if (expired.FirstOrDefault(point => !due.Contains(point)) is { IsEmpty: false } early)
        {
            throw new RefutedException($"Point {early} has expired, which the rule ({this}) keeps.");
        }
        foreach (var point in due.Except(expired))
        {
            var described = (await role.Admin.GetRecoveryPointAsync(new GetRecoveryPointRequest { Point = point.ToString() }, CancellationToken.None)).RecoveryPoint;
            if (!described.Retention.KeptBy.Contains("in use"))
            {
                throw new RefutedException($"By the rule ({this}) point {point} expires, but it did not.");
            }
        }
    }

    private List<Id16> DueOf(List<(long Ms, Id16 Point)> points)
    {
        points.Sort((left, right) => (right.Ms, right.Point).CompareTo((left.Ms, left.Point)));
        var (due, days) = (new List<Id16>(), new HashSet<long>());
        for (var i = 0; i < points.Count; i++)
        {
            var isOfDay = days.Count < Days && days.Add(points[i].Ms / DayMs);
            if (i > 0 && i >= Last && !isOfDay)
            {
                due.Add(points[i].Point);
            }
        }
        return due;
    }
}
