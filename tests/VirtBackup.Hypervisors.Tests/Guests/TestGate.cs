namespace VirtBackup.Hypervisors.Tests.Guests;

/// <summary>Stands for the other machines of a group: a test decides at each step what becomes of them.</summary>
internal sealed class TestGate(Func<string, CancellationToken, Task> reach) : ICutGate
{
    public TestGate()
        : this(static (_, _) => Task.CompletedTask)
    {
    }

    /// <summary>ready, prepared, frozen, cut, and "held" or "not held" for the end.</summary>
    public List<string> Passed { get; } = [];

    public ValueTask ReadyAsync(CancellationToken cancellationToken) => PassAsync("ready", cancellationToken);

    public ValueTask PreparedAsync(CancellationToken cancellationToken) => PassAsync("prepared", cancellationToken);

    public ValueTask FrozenAsync(CancellationToken cancellationToken) => PassAsync("frozen", cancellationToken);

    public ValueTask CutAsync(CancellationToken cancellationToken) => PassAsync("cut", cancellationToken);

    public void Released(bool held) => Passed.Add(held ? "held" : "not held");

    private async ValueTask PassAsync(string step, CancellationToken cancellationToken)
    {
        Passed.Add(step);
        await reach(step, cancellationToken);
    }
}
