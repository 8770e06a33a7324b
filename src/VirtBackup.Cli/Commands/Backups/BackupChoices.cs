using System.CommandLine;
using System.Globalization;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Cli.Commands.Backups;

/// <summary>The options of a backup, for running and for planning one.</summary>
internal sealed class BackupChoices
{
    private const uint AuditRunsMax = 10_000;

    private static readonly TimeSpan AuditTimeMax = TimeSpan.FromDays(1);

    private readonly Option<bool> _full = new("--full") { Description = "Read every disk whole, whatever change tracking says" };

    private readonly Option<string[]> _excluded = new("--exclude-disk")
    {
        Description = "Leave this disk out (may be repeated)", HelpName = "DISK", DefaultValueFactory = static _ => [],
    };

    private readonly Option<ulong> _rate = new("--rate-limit")
    {
        Description = "Read at most this much per second, such as 50MiB", HelpName = "BYTES", CustomParser = static result => ByteCount.Parse(result),
    };

    private readonly Option<bool> _noQuiesce = new("--no-quiesce") { Description = "Do not ask the guest to flush and freeze its file systems" };

    private readonly Option<uint> _quiesceTimeout = new("--quiesce-timeout")
    {
        Description = "Wait this many seconds for the guest to freeze, then go on without (1 to 600; default: as the agent is configured)", HelpName = "SECONDS",
    };

    private readonly Option<double?> _budget = new("--write-latency-budget")
    {
        Description = "Read more slowly when the guest's writes take more than FACTOR times as long as before (0: do not watch; default: as the agent is configured)",
        HelpName = "FACTOR",
    };

    private readonly Option<string[]> _changed = new("--changed-extents")
    {
        Description = "Read only these ranges of a disk without change tracking; FILE holds a line 'OFFSET LENGTH' in bytes for each (may be repeated)",
        HelpName = "DISK=FILE", DefaultValueFactory = static _ => [],
    };

    private readonly Option<bool> _noAudit = new("--no-audit") { Description = "Do not read again any of what change tracking calls unchanged" };

    private readonly Option<uint?> _auditRuns = new("--audit-runs")
    {
        Description = "Audit so much that every disk is read again whole in so many runs (default: as the agent is configured)", HelpName = "N",
    };

    private readonly Option<TimeSpan?> _auditTime = new("--audit-time-limit")
    {
        Description = "Audit for at most so long, such as 10m; the next run goes on", HelpName = "TIME", CustomParser = static result => Durations.Parse(result),
    };

    private readonly StateChoice _state = new();

    public void AddTo(Command command)
    {
        _state.AddTo(command);
        command.Add(_noAudit);
        command.Add(_auditRuns);
        command.Add(_auditTime);
        command.Add(_full);
        command.Add(_excluded);
        command.Add(_rate);
        command.Add(_noQuiesce);
        command.Add(_quiesceTimeout);
        command.Add(_budget);
        command.Add(_changed);
    }

    public BackupOptions Read(ParseResult parse)
    {
        var seconds = parse.GetValue(_quiesceTimeout);
        if (parse.GetResult(_quiesceTimeout) is not null && seconds is < 1 or > 600)
        {
            throw CommandFault.Usage($"--quiesce-timeout {seconds} is not between 1 and 600 seconds.");
        }
        var options = new BackupOptions
        {
            Full = parse.GetValue(_full),
            ReadBytesPerSecondMax = parse.GetValue(_rate),
            SkipQuiesce = parse.GetValue(_noQuiesce),
            QuiesceTimeoutSeconds = seconds,
            State = _state.Read(parse),
        };
        if (parse.GetValue(_budget) is { } factor)
        {
            options.WriteLatencyFactorMax = factor is 0 or (>= 1 and <= 1000)
                ? factor : throw CommandFault.Usage($"--write-latency-budget {factor.ToString(CultureInfo.InvariantCulture)} is neither 0 nor between 1 and 1000.");
        }
        options.Audit = ReadAudit(parse);
        options.ExcludedDisks.AddRange(parse.GetValue(_excluded) ?? []);
        foreach (var given in parse.GetValue(_changed) ?? [])
        {
            options.ChangedExtents.Add(ExtentsFile.Read(given));
        }
        return options;
    }

    private AuditOptions? ReadAudit(ParseResult parse)
    {
        var (isOff, runs, time) = (parse.GetValue(_noAudit), parse.GetValue(_auditRuns), parse.GetValue(_auditTime));
        if (!isOff && runs is null && time is null)
        {
            return null;
        }
        if (isOff && (runs is not null || time is not null))
        {
            throw CommandFault.Usage("--no-audit does not go with --audit-runs or --audit-time-limit.");
        }
        return runs is 0 or > AuditRunsMax
            ? throw CommandFault.Usage($"--audit-runs must be between 1 and {AuditRunsMax}.", "use --no-audit to audit nothing")
            : new AuditOptions { Off = isOff, Runs = runs ?? 0, SecondsMax = (uint)Math.Min(time?.TotalSeconds ?? 0, AuditTimeMax.TotalSeconds) };
    }
}

/// <summary>Changed extents, as another tool's change tracking wrote them to a file.</summary>
internal static class ExtentsFile
{
    /// <summary>Numbers in one list that an agent accepts.</summary>
    private const int NumbersMax = 200_000;

    /// <param name="given"><c>DISK=FILE</c>.</param>
    public static ChangedExtents Read(string given)
    {
        var split = given.IndexOf('=', StringComparison.Ordinal);
        if (split <= 0 || split == given.Length - 1)
        {
            throw CommandFault.Usage($"'{given}' must be written as DISK=FILE.");
        }
        var extents = new ChangedExtents { DiskName = given[..split] };
        var path = given[(split + 1)..];
        if (!File.Exists(path))
        {
            throw new CommandFault(ExitCode.NotFound, $"The file of changed extents '{path}' does not exist.");
        }
        foreach (var (index, line) in File.ReadLines(path).Index())
        {
            if (line.AsSpan().Trim() is not { IsEmpty: false } text || text[0] == '#')
            {
                continue;
            }
            var blank = text.IndexOfAny(' ', '\t');
            if (blank < 0 || !TryNumber(text[..blank], out var offset) || !TryNumber(text[blank..].Trim(), out var length) || length == 0)
            {
                throw CommandFault.Usage($"Line {index + 1} of '{path}' must be an offset and a length in bytes, with a blank between them.");
            }
            extents.OffsetLength.Add(offset);
            extents.OffsetLength.Add(length);
            if (extents.OffsetLength.Count > NumbersMax)
            {
                throw CommandFault.Usage($"'{path}' lists more than {NumbersMax / 2} ranges.", "merge neighbouring ranges, or leave --changed-extents out to read the whole disk");
            }
        }
        return extents;
    }

    private static bool TryNumber(ReadOnlySpan<char> text, out ulong number) => ulong.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out number);
}
