using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using System.Text.Json.Nodes;
using VirtBackup.Testing.CommandLine;

[assembly: System.Runtime.Versioning.SupportedOSPlatform("linux")]

namespace VirtBackup.Cli.Tests.Fixtures;

/// <summary>How a run of the program ended.</summary>
internal sealed record Outcome(int ExitCode, string Output, string Error)
{
    public JsonNode Json => JsonNode.Parse(Output) ?? throw new InvalidOperationException($"No JSON: '{Output}'");

    public Outcome Succeeds()
    {
        Assert.True(ExitCode == 0, $"exit code {ExitCode}\n{Output}\n{Error}");
        return this;
    }

    /// <summary>The failure that standard error tells a program: one line of JSON and nothing else.</summary>
    public JsonNode FailureJson => JsonNode.Parse(Assert.Single(Error.Split('\n', StringSplitOptions.RemoveEmptyEntries)))!["error"]!;

    /// <summary>An expected failure for a program.</summary>
    public void FailsAsJson(int exitCode, string reason, string message, string next)
    {
        Assert.True(ExitCode == exitCode, $"exit code {ExitCode}\n{Output}\n{Error}");
        Assert.Empty(Output);
        Assert.Equal((exitCode, reason), ((int)FailureJson["exit_code"]!, (string?)FailureJson["reason"]));
        Assert.Contains(message, (string?)FailureJson["message"]);
        Assert.Contains(next, (string?)FailureJson["next"]);
    }

    /// <summary>An expected failure: its exit code, one line that says what is wrong, and one with the next step.</summary>
    public void Fails(int exitCode, string error, string? next = null)
    {
        Assert.True(ExitCode == exitCode, $"exit code {ExitCode}\n{Output}\n{Error}");
        Assert.Empty(Output);
        var lines = Error.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Contains(error, Assert.Single(lines, static line => line.StartsWith("error: ", StringComparison.Ordinal)));
        Assert.DoesNotContain("   at ", Error);
        if (next is not null)
        {
            Assert.Contains(next, Assert.Single(lines, static line => line.StartsWith("next: ", StringComparison.Ordinal)));
        }
    }
}

/// <summary>Runs the built program, with streams that are not terminals, or what is in it within the test's process, which is faster.</summary>
internal static class CommandLine
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    // From its own output folder: beside the tests, assemblies that their framework brings along are missing.
    private static readonly string Program = Path.Combine(
        AppContext.BaseDirectory.Replace("/tests/VirtBackup.Cli.Tests/", "/src/VirtBackup.Cli/", StringComparison.Ordinal), "virtbackup");

    // Times are shown as the program shows them here.
    [ModuleInitializer]
    [SuppressMessage("Usage", "CA2255", Justification = "A program of tests, not a library.")]
    public static void SetZone()
    {
        Environment.SetEnvironmentVariable("TZ", "UTC");
        TimeZoneInfo.ClearCachedData();
    }

    /// <summary>A command without input, whose relative paths are not those of the home.</summary>
    public static async Task<Outcome> RunWithinAsync(TempFolder home, params string[] arguments)
    {
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        patience.CancelAfter(Patience);
        var environment = new Dictionary<string, string?> { ["HOME"] = home.Path, ["TERM"] = "xterm", ["VIRTBACKUP_CREDENTIALS"] = null };
        var result = await LoadedCommandLine.RunAsync(arguments, environment, patience.Token);
        return new Outcome(result.ExitCode, result.Stdout, result.Stderr);
    }

    public static Task<Outcome> RunAsync(TempFolder home, params string[] arguments) => RunAsync(home, "", arguments);

    public static async Task<Outcome> RunAsync(TempFolder home, string input, string[] arguments)
    {
        using var process = Start(home, arguments);
        await process.StandardInput.WriteAsync(input);
        process.StandardInput.Close();
        return await EndAsync(process);
    }

    public static Process Start(TempFolder home, string[] arguments) => Start(home, Program, arguments);

    /// <summary>A command on a terminal of its own (util-linux script), with the program on its path.</summary>
    public static Process Terminal(TempFolder home, string command) => Start(home, "script", ["--quiet", "--command", command, "/dev/null"]);

    private static Process Start(TempFolder home, string program, string[] arguments)
    {
        var start = new ProcessStartInfo(program, arguments)
        {
            RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true, WorkingDirectory = home.Path,
        };
        start.Environment["HOME"] = home.Path;
        start.Environment["TZ"] = "UTC";
        start.Environment["PATH"] = $"{Path.GetDirectoryName(Program)}:{Environment.GetEnvironmentVariable("PATH")}";
        start.Environment["TERM"] = "xterm";
        start.Environment["VIRTBACKUP_COMPLETION_SECONDS"] = "30";
        start.Environment.Remove("VIRTBACKUP_CREDENTIALS");
        return Process.Start(start)!;
    }

    public static async Task<Outcome> EndAsync(Process process)
    {
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(TestContext.Current.CancellationToken);
        patience.CancelAfter(Patience);
        try
        {
            var output = process.StandardOutput.ReadToEndAsync(patience.Token);
            var error = process.StandardError.ReadToEndAsync(patience.Token);
            await process.WaitForExitAsync(patience.Token);
            return new Outcome(process.ExitCode, await output, await error);
        }
        finally
        {
            if (!process.HasExited)
            {
                process.Kill();
            }
        }
    }
}
