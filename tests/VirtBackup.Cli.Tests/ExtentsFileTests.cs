using VirtBackup.Cli.Tests.Fixtures;
using VirtBackup.Protocol.Admin.V1;

namespace VirtBackup.Cli.Tests;

/// <summary>Files of changed extents, which other tools write: understood whole, or refused with the line.</summary>
public sealed class ExtentsFileTests : ControllerTests
{
    [Theory]
    [InlineData("0 4096\n\n  # note\n\t8192\t 1\r\n", null)]
    [InlineData("", null)]
    [InlineData("18446744073709551615 18446744073709551615\n", null)]
    [InlineData("0 0\n", 1)]
    [InlineData("1 2\n3\n", 2)]
    [InlineData("1 2\n3 \n", 2)]
    [InlineData("1 2 3\n", 1)]
    [InlineData("-1 2\n", 1)]
    [InlineData("+1 2\n", 1)]
    [InlineData("1,2\n", 1)]
    [InlineData("0x10 2\n", 1)]
    [InlineData("18446744073709551616 1\n", 1)]
    [InlineData("1 2\n\u0000\u0000\u0000", 2)]
    [InlineData("\uFFFD\u0661 2\n", 1)]
    public async Task Every_line_is_a_range_or_named(string text, int? wrongLine)
    {
        var file = Home.File("extents");
        await File.WriteAllTextAsync(file, text, TestContext.Current.CancellationToken);
        var outcome = await RunAsync(file);
        if (wrongLine is { } line)
        {
            outcome.Fails(2, $"Line {line} of '{file}'");
            return;
        }
        outcome.Succeeds();
        var numbers = text.Split('\n').Where(static l => l.Trim() is { Length: > 0 } t && t[0] != '#').SelectMany(static l => l.Split([' ', '\t', '\r'], StringSplitOptions.RemoveEmptyEntries));
        Assert.Equal(numbers.Select(ulong.Parse), Assert.Single(Controller.Admin.Request<StartBackupRequest>().Options.ChangedExtents).OffsetLength);
    }

    [Fact]
    public async Task Random_files_end_in_an_answer_or_one_error()
    {
        var random = new Random(20261126);
        const string letters = "0123456789 \t\n\r#-.x\0é";
        for (var i = 0; i < 25; i++)
        {
            var file = Home.File($"random-{i}");
            await File.WriteAllTextAsync(file, string.Concat(Enumerable.Range(0, random.Next(60)).Select(_ => letters[random.Next(letters.Length)])), TestContext.Current.CancellationToken);
            var outcome = await RunAsync(file);
            if (outcome.ExitCode != 0)
            {
                outcome.Fails(2, file);
            }
        }
        var many = Home.File("many");
        await File.WriteAllLinesAsync(many, Enumerable.Range(0, 100_001).Select(static n => $"{2 * n} 1"), TestContext.Current.CancellationToken);
        (await RunAsync(many)).Fails(2, "more than 100000 ranges", "merge neighbouring ranges");
        (await RunAsync(Home.Path)).Fails(5, Home.Path);
    }

    private Task<Outcome> RunAsync(string file) =>
        RunAsync("backup", "run", "web1", "--changed-extents", $"vda={file}", "--detach");
}
