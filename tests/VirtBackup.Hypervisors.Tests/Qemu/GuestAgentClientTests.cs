using System.Text;
using System.Text.Json;
using VirtBackup.Core;
using VirtBackup.Hypervisors.Qemu;
using VirtBackup.Testing.Lab;

namespace VirtBackup.Hypervisors.Tests.Qemu;

public sealed class GuestAgentClientTests
{
    private const int FrozenCount = 2;
    private const int ThawedCount = 5;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task The_late_answer_to_a_freeze_is_not_taken_for_that_to_the_thaw()
    {
        using var scratch = new LabDirectory();
        await using var agent = new LateGuestAgent(scratch.File("qga"));
        await using var client = await GuestAgentClient.ConnectAsync(agent.SocketPath, TimeProvider.System, SystemEntropy.Instance, TimeSpan.FromSeconds(30), Token);
        using var cut = CancellationTokenSource.CreateLinkedTokenSource(Token);

        var freezing = client.FreezeAsync(TimeSpan.FromSeconds(30), cut.Token);
        await agent.FreezeAsked;
        await cut.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => freezing);
        await client.AskToThawAsync(Token);

        Assert.Equal(ThawedCount, await client.ThawAsync(TimeSpan.FromSeconds(30), Token));
        Assert.Equal(2, agent.Thaws);
    }

    /// <summary>Freezes until the next request is there, and only then answers.</summary>
    private sealed class LateGuestAgent(string path) : FakePeer(path)
    {
        private readonly TaskCompletionSource freezeAsked = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public Task FreezeAsked => freezeAsked.Task;

        public int Thaws { get; private set; }

        protected override async Task ServeAsync(Stream stream, CancellationToken cancellationToken)
        {
            using var reader = new StreamReader(stream, Encoding.Latin1);
            var line = await reader.ReadLineAsync(cancellationToken);
            while (line is not null)
            {
                using var request = JsonDocument.Parse(line.TrimStart('\u00ff'));
                var command = request.RootElement.GetProperty("execute").GetString();
                string? next = null;
                if (command == "guest-fsfreeze-freeze")
                {
                    freezeAsked.SetResult();
                    next = await reader.ReadLineAsync(cancellationToken);
                }
                Thaws += command == "guest-fsfreeze-thaw" ? 1 : 0;
                var answer = command switch
                {
                    "guest-sync-delimited" => $"\u00ff{{\"return\": {request.RootElement.GetProperty("arguments").GetProperty("id").GetInt64()}}}\n",
                    "guest-fsfreeze-thaw" => $"{{\"return\": {ThawedCount}}}\n",
                    _ => $"{{\"return\": {FrozenCount}}}\n",
                };
                await stream.WriteAsync(Encoding.Latin1.GetBytes(answer), cancellationToken);
                line = next ?? await reader.ReadLineAsync(cancellationToken);
            }
        }
    }
}
