namespace VirtBackup.Cli.Tests.Fixtures;

/// <summary>Tests that run commands against a controller, with an operator's credentials.</summary>
public abstract class ControllerTests : IAsyncLifetime
{
    private protected TempFolder Home { get; } = new();

    private protected FakeController Controller { get; private set; } = null!;

    /// <summary>A folder.</summary>
    private protected string Credentials { get; private set; } = "";

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
