namespace VirtBackup.Cli.Tests.Fixtures;

/// <summary>Tests that run commands against a controller, with an operator's credentials.</summary>
public abstract class ControllerTests : IAsyncLifetime
{
    private protected TempFolder Home { get; } = new();

    private protected FakeController Controller { get; private set; } = null!;

    /// <summary>A folder.</summary>
    private protected string Credentials { get; private set; } = "";

    private protected Task<Outcome> RunAsync(params string[] arguments) => CommandLine.RunWithinAsync(Home, [.. arguments, "--credentials", Credentials]);

    /// <summary>The command holds this in the JSON that it prints for programs, and this in what it prints for people, plain.</summary>
    private protected async Task PrintsForBothAsync(string line, string json, string table)
    {
        var forPrograms = (await RunAsync([.. line.Split(' '), "--output", "json"])).Succeeds();
        Assert.Empty(forPrograms.Error);
        forPrograms.Json.Holds(json);
        var forPeople = (await RunAsync(line.Split(' '))).Succeeds();
        Assert.Contains(table, forPeople.Output);
        Assert.DoesNotContain('\u001b', forPeople.Output + forPeople.Error);
        Assert.DoesNotContain(forPeople.Output.Split('\n'), static text => text.EndsWith(' '));
    }

    public async ValueTask InitializeAsync()
    {
        Controller = await FakeController.StartAsync();
        Credentials = Controller.WriteCredentials(Home);
    }

    public async ValueTask DisposeAsync()
    {
        await Controller.DisposeAsync();
        Home.Dispose();
        GC.SuppressFinalize(this);
    }
}
