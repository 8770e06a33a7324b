using VirtBackup.Agent.Guests;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Guests;

namespace VirtBackup.Agent.Host;

/// <summary>How a guest is treated while it is backed up, as <c>guests</c> of agent.yaml says.</summary>
public sealed class GuestSettings
{
    private const int SecondsMax = 600;

    /// <summary>Empty: all guests without an entry of their own.</summary>
    public string? Uuid { get; set; }

    public int QuiesceTimeoutSeconds { get; set; } = 10;

    public int FreezeSecondsMax { get; set; } = 20;

    public HookSettings? BeforeFreeze { get; set; }

    public HookSettings? AfterThaw { get; set; }

    /// <summary>continue or abort.</summary>
    public string HookFailure { get; set; } = "continue";

    /// <summary>Of the mean before the cut; 0: not watched.</summary>
    public double WriteLatencyFactorMax { get; set; } = 2;

    public double WriteLatencyFreeMs { get; set; } = 1;

    public int ReadMibPerSecondMin { get; set; } = 4;

    /// <summary>The policies of all entries.</summary>
    /// <exception cref="FaultException">An entry holds something that cannot be.</exception>
    internal static GuestPolicies ToPolicies(IReadOnlyList<GuestSettings?> entries, string path)
    {
        FaultException Wrong(string what) => new(FaultReason.InvalidArgument, $"{path}: guests: {what}");
        var others = new GuestPolicy();
        var own = new Dictionary<Id16, GuestPolicy>();
        var hasOthers = false;
        foreach (var entry in entries)
        {
            if (entry is null)
            {
                throw Wrong("an entry is empty: fill it in or remove its dash.");
            }
            var name = string.IsNullOrWhiteSpace(entry.Uuid) ? "the entry without uuid" : entry.Uuid;
            if (entry.FindProblem() is { } problem)
            {
                throw Wrong($"{name}: {problem}");
            }
            if (string.IsNullOrWhiteSpace(entry.Uuid))
            {
                others = hasOthers ? throw Wrong("two entries have no uuid; only one can hold for all others.") : entry.ToPolicy();
                hasOthers = true;
            }
            else if (!Id16.TryParse(entry.Uuid, out var id) || !own.TryAdd(id, entry.ToPolicy()))
            {
                throw Wrong($"uuid '{entry.Uuid}' is not a UUID, or used twice.");
            }
        }
        return new GuestPolicies(others, own);
    }

    private string? FindProblem() =>
        QuiesceTimeoutSeconds is < 1 or > SecondsMax || FreezeSecondsMax is < 1 or > SecondsMax
            ? $"quiesce_timeout_seconds and freeze_seconds_max must be between 1 and {SecondsMax}."
        : HookFailure is not ("continue" or "abort") ? "hook_failure must be continue or abort."
        : !double.IsFinite(WriteLatencyFactorMax) || WriteLatencyFactorMax is not 0 and (< 1 or > 1000)
            ? "write_latency_factor_max must be 0 (not watched) or between 1 and 1000."
        : !double.IsFinite(WriteLatencyFreeMs) || WriteLatencyFreeMs is < 0 or > 10_000 ? "write_latency_free_ms must be between 0 and 10000."
        : ReadMibPerSecondMin is < 1 or > 100_000 ? "read_mib_per_second_min must be between 1 and 100000."
        : AfterThaw is not null && BeforeFreeze is null ? "after_thaw is run only when before_freeze was: it needs one."
        : BeforeFreeze?.FindProblem("before_freeze") ?? AfterThaw?.FindProblem("after_thaw");

    private GuestPolicy ToPolicy() => new()
    {
        QuiesceTimeout = TimeSpan.FromSeconds(QuiesceTimeoutSeconds),
        FreezeLimit = TimeSpan.FromSeconds(FreezeSecondsMax),
        Hooks = new GuestHooks(BeforeFreeze?.ToCommand(), AfterThaw?.ToCommand(), HookFailure == "abort"),
        Budget = new ImpactBudget(WriteLatencyFactorMax)
        {
            Free = TimeSpan.FromMilliseconds(WriteLatencyFreeMs), ReadBytesPerSecondMin = (long)ReadMibPerSecondMin << 20,
        },
    };
}

/// <summary>A command run inside the guest.</summary>
public sealed class HookSettings
{
    private const int SecondsMax = 3600;
    private const int WordCharsMax = 4096;

    /// <summary>Absolute path of the program in the guest, then its arguments. No shell reads it.</summary>
    public List<string> Command { get; set; } = [];

    public int TimeoutSeconds { get; set; } = 30;

    internal string? FindProblem(string name) =>
        Command is not { Count: > 0 and <= GuestCommand.WordsMax } || Command.Exists(static word => word is null || word.Length > WordCharsMax) || Command[0].Length == 0
            ? $"{name}: command must be a list of 1 to {GuestCommand.WordsMax} words, the program first."
        : TimeoutSeconds is < 1 or > SecondsMax ? $"{name}: timeout_seconds must be between 1 and {SecondsMax}."
        : null;

    internal GuestCommand ToCommand() => new([.. Command], TimeSpan.FromSeconds(TimeoutSeconds));
}
