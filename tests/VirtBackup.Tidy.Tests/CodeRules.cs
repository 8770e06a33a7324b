using System.Text.RegularExpressions;

namespace VirtBackup.Tidy.Tests;

/// <summary>Rules about what product code may name, seen without comments and literals.</summary>
internal static class CodeRules
{
    private static readonly string[] FileAccess = ["ObjectStores", "CloudStores", "Database", "Hypervisors", "Nbd", "Identity"];

    private static readonly IReadOnlyList<(Regex Pattern, string Message)> Banned =
    [
        (Code(@"\bDateTime(Offset)?\s*\.\s*(Utc)?(Now|Today)\b"), "Time comes from the injected TimeProvider."),
        // Options may default to the system's clock; whoever composes decides.
        (Code(@"(?<!\}\s*=\s*)\bTimeProvider\s*\.\s*System\b"), "Time comes from the injected TimeProvider; only programs choose the system's."),
        (Code(@"\bStopwatch\b"), "Measure with the injected TimeProvider."),
        (Code(@"\bEnvironment\s*\.\s*TickCount(64)?\b"), "Time comes from the injected TimeProvider."),
        (Code(@"\bRandom\s*\.\s*Shared\b|\bnew\s+(System\s*\.\s*)?Random\b"), "Randomness comes from the injected IEntropy."),
        (Code(@"\bGuid\s*\.\s*(NewGuid|CreateVersion7)\b"), "Names are Id16.Create(entropy)."),
        (Code(@"\bTask\s*\.\s*(Run|Factory)\b"), "Start a loop as an async method that first awaits Task.Yield()."),
        (Code(@"\.\s*ConfigureAwait\s*\(\s*(continueOnCapturedContext\s*:\s*)?false\b"), "The simulation's scheduler must keep the continuation."),
        (Code(@"\bnew\s+(System\s*\.\s*Threading\s*\.\s*)?(Thread|Timer)\s*\("), "Loops are async methods; timers come from the TimeProvider."),
        (Code(@"\bThread\s*\.\s*Sleep\b"), "Wait with Task.Delay(time span, TimeProvider, token)."),
        (Code(@"\bThreadPool\b"), "Loops are async methods."),
        (Code(@"\bParallel\s*\.\s*\w"), "Concurrency is loops over bounded channels."),
        (Code(@"\bConsole\b(?!\s*\.\s*(Console|Logger))"), "Only programs speak to the terminal."),
    ];

    private static readonly Regex ClockCall = Code(
        @"\bTask\s*\.\s*Delay\s*\(|\bnew\s+(System\s*\.\s*Threading\s*\.\s*)?(CancellationTokenSource|PeriodicTimer)\s*\(|\bCancellationTokenSource\??\s+\w+\s*=\s*new\s*\(|\.\s*CancelAfter\s*\(");

    private static readonly Regex TimeArgument = Code(@"^[\w.!?()]*(time|clock|timeprovider)$", RegexOptions.IgnoreCase);

    public static readonly IReadOnlyList<Rule> All =
    [
        new("No clock, chance, thread or terminal below the programs", FindBanned),
        new("Every wait has a TimeProvider", FindClocklessWaits),
        new("Code names only the projects of its floor", tree => FindImports(tree)),
        new("gRPC stays in its folders", tree => Find(
            tree,
            Code(@"\bGrpc\s*\.\s*(Core|Net|AspNetCore)\b"),
            file => IsUnder(file, "src/VirtBackup.Protocol/Grpc/") || IsUnder(file, "src/VirtBackup.Controller/Grpc/") || Floors.IsProgram(file.Project),
            "gRPC types belong in Protocol/Grpc, Controller/Grpc and the programs.")),
        new("SQLite stays in Database", tree => Find(
            tree,
            Code(@"\bMicrosoft\s*\.\s*Data\s*\.\s*Sqlite\b|\bSQLitePCL\b|\bSqlite(Connection|ConnectionStringBuilder|Command|DataReader|Transaction|Parameter|Exception|Blob)\b"),
            file => file.Project == "VirtBackup.Database",
            "SQLite types belong in Database.")),
        new("File access has its projects", tree => Find(
            tree,
            Code(@"(?<![\w.])(System\s*\.\s*IO\s*\.\s*)?((File|Directory)\s*\.\s*\w|(FileStream|FileInfo|DirectoryInfo|FileSystemWatcher)\b)"),
            file => FileAccess.Contains(Floors.ShortName(file.Project)) || Floors.IsProgram(file.Project),
            "Files are reached through a port; raw access belongs in ObjectStores, CloudStores, Database, Hypervisors, Nbd, Identity and the programs.")),
        new("No regions", tree => Find(tree, new Regex(@"^[ \t]*#\s*(end)?region\b", RegexOptions.Multiline), _ => false, "A file that needs regions needs to be two files.")),
    ];

    private static Regex Code(string pattern, RegexOptions options = RegexOptions.None) => new(pattern, options | RegexOptions.CultureInvariant);

    private static bool IsUnder(SourceFile file, string folder) => file.Path.StartsWith(folder, StringComparison.Ordinal);

    private static IEnumerable<Violation> Find(SourceTree tree, Regex pattern, Func<SourceFile, bool> exempt, string message) =>
        from file in tree.Sources
        where !exempt(file)
        from Match match in pattern.Matches(file.Code)
        select file.At(match.Index, $"{Shown(match)}: {message}");

    private static IEnumerable<Violation> FindBanned(SourceTree tree) =>
        Banned.SelectMany(ban => Find(tree, ban.Pattern, file => Floors.IsProgram(file.Project), ban.Message));

    private static IEnumerable<Violation> FindClocklessWaits(SourceTree tree)
    {
        foreach (var file in tree.Sources.Where(file => !Floors.IsProgram(file.Project)))
        {
            foreach (Match match in ClockCall.Matches(file.Code))
            {
                var arguments = ArgumentsAt(file.Code, match.Index + match.Length);
                // A source without a limit needs no clock; everything else names one after the time span.
                var needsClock = arguments.Count > 0 || match.Value.Contains("Delay", StringComparison.Ordinal);
                var cancelAfter = match.Value.Contains("CancelAfter", StringComparison.Ordinal);
                if (cancelAfter || (needsClock && !arguments.Skip(1).Any(argument => TimeArgument.IsMatch(argument))))
                {
                    yield return file.At(match.Index, $"{Shown(match)}…): it waits by the system's clock; give it the injected TimeProvider.");
                }
            }
        }
    }

    /// <summary>The arguments of a call, split at its top level; <paramref name="start"/> is behind the open parenthesis.</summary>
    internal static List<string> ArgumentsAt(string code, int start)
    {
        var arguments = new List<string>();
        var depth = 0;
        var from = start;
        for (var i = start; i < code.Length; i++)
        {
            var c = code[i];
            if (depth == 0 && c is ')' or ',' && depth == 0)
            {
                var argument = code[from..i].Trim();
                if (argument.Length > 0)
                {
                    arguments.Add(argument[(argument.IndexOf(':') is var colon and >= 0 && !argument.Contains('?') ? colon + 1 : 0)..].Trim());
                }
                from = i + 1;
                if (c == ')')
                {
                    break;
                }
                continue;
            }
            depth += c is '(' or '[' or '{' ? 1 : c is ')' or ']' or '}' ? -1 : 0;
        }
        return arguments;
    }

    private static IEnumerable<Violation> FindImports(SourceTree tree)
    {
        var name = Code(@"(?<![\w.])VirtBackup\s*\.\s*(" + string.Join('|', Floors.Product.Keys.OrderByDescending(key => key.Length).Select(Regex.Escape)) + @")\b");
        foreach (var file in tree.Sources)
        {
            var own = Floors.ShortName(file.Project);
            if (!Floors.Product.TryGetValue(own, out var floor))
            {
                continue;
            }
            // Programs compose what lies below them; everybody else names only direct neighbours.
            var allowed = floor.Program ? Floors.Below(own) : floor.Projects.Concat(floor.Ports ?? []).Append(own).ToHashSet(StringComparer.Ordinal);
            foreach (Match match in name.Matches(file.Code))
            {
                var target = match.Groups[1].Value;
                if (!allowed.Contains(target))
                {
                    yield return file.At(match.Index, $"{own} may not use {target}.");
                }
            }
        }
    }

    private static string Shown(Match match) => Regex.Replace(match.Value, @"\s+", " ").Trim();
}
