using VirtBackup.Catalog;
using VirtBackup.Catalog.Retention;
using VirtBackup.Core;
using VirtBackup.Protocol.Admin.V1;
using Rules = VirtBackup.Catalog.Retention.RetentionRules;

namespace VirtBackup.Controller.Retention;

/// <summary>Between what retention knows and what operators' tools are told.</summary>
internal static class RetentionMessages
{
    public static MachineRetention ToMessage(MachineRuleSet? found) => found is null
        ? new MachineRetention()
        : new MachineRetention { RuleSet = found.RuleSet.Name, IsDefault = !found.IsOwn, Rules = ToMessage(found.RuleSet.Rules) };

    public static PointRetention ToMessage(MachinePoints machine, SimulatedPoint outlook, Simulation simulation)
    {
        var point = outlook.Verdict.Point;
        var message = new PointRetention
        {
            RuleSet = machine.RuleSet?.RuleSet.Name ?? "",
            Verified = point.IsVerified,
            LockTime = point.LockedUntilMs > 0 ? WireText.ToTimestamp(point.LockedUntilMs) : null,
            ExpireTime = WireText.ToTimestamp(outlook.ExpiresMs),
            SimulatedUntil = WireText.ToTimestamp(simulation.EndMs),
        };
        message.KeptBy.Add(outlook.Verdict.Reasons.Select(static reason => reason.ToString()));
        message.Holds.Add(machine.Holds[point.Id].Select(ToMessage));
        return message;
    }

    public static Hold ToMessage(HoldRow hold) => new()
    {
        HoldId = hold.HoldId.ToString(), Reason = hold.Reason, PlacedBy = hold.PlacedBy, BySystem = hold.BySystem, PlaceTime = WireText.ToTimestamp(hold.PlacedMs),
    };

    public static Protocol.Admin.V1.RetentionRules ToMessage(Rules rules) =>
        new Protocol.Admin.V1.RetentionRules
        {
            KeepLast = (uint)rules.Last,
            KeepHourly = (uint)rules.Hourly,
            KeepDaily = (uint)rules.Daily,
            KeepWeekly = (uint)rules.Weekly,
            KeepMonthly = (uint)rules.Monthly,
            KeepYearly = (uint)rules.Yearly,
            KeepWithinHours = (uint)rules.WithinHours,
        };

    /// <exception cref="FaultException"><see cref="FaultReason.InvalidArgument"/>: a number beyond its bounds.</exception>
    public static Rules FromMessage(Protocol.Admin.V1.RetentionRules? rules)
    {
        var read = rules is null ? Rules.KeepEverything : new Rules
        {
            Last = ToCount(rules.KeepLast),
            Hourly = ToCount(rules.KeepHourly),
            Daily = ToCount(rules.KeepDaily),
            Weekly = ToCount(rules.KeepWeekly),
            Monthly = ToCount(rules.KeepMonthly),
            Yearly = ToCount(rules.KeepYearly),
            WithinHours = ToCount(rules.KeepWithinHours),
        };
        read.Validate();
        return read;
    }

    public static RuleSet ToMessage(RuleSetRow row) =>
        new RuleSet
        {
            Name = row.Name, Rules = ToMessage(row.Rules), IsDefault = row.IsDefault, VirtualMachines = (uint)row.Machines, ChangeTime = WireText.ToTimestamp(row.ChangedMs),
        };

    private static int ToCount(uint value) => (int)Math.Min(value, int.MaxValue);
}
