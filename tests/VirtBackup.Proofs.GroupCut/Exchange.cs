using VirtBackup.Testing.Lab;

namespace VirtBackup.Proofs.GroupCut;

/// <summary>
/// Two guests, a cable between them, and a load in each: it writes its next number to its disk, sends it when it lies there, and writes
/// to its disk what it receives. Which writes are through is for the file system to say, which is mounted so that every write waits.
/// </summary>
internal sealed class Exchange : IAsyncDisposable
{
    public const string Left = "left", Right = "right";
    private readonly LabDirectory _folder = new();
    private readonly List<LabVm> _guests = [];

    public IReadOnlyList<LabVm> Guests => _guests;

    public static char MarkOf(string guest) => char.ToUpperInvariant(guest[0]);

    public static async Task<Exchange> BootAsync(CancellationToken cancellationToken)
    {
        var exchange = new Exchange();
        try
        {
            var cable = exchange._folder.File("cable");
            var left = LabVm.BootAsync(Options(Left, $"path={cable},server=on,wait=off"), cancellationToken);
            var right = LabVm.BootAsync(Options(Right, $"path={cable},reconnect=1"), cancellationToken);
            foreach (var booting in new[] { left, right })
            {
                await ((Task)booting).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                if (booting.IsCompletedSuccessfully) exchange._guests.Add(await booting);
            }
            await Task.WhenAll(left, right);
            await Task.WhenAll(exchange._guests.Select(guest => StartLoadAsync(guest, cancellationToken)));
            return exchange;
        }
        catch
        {
            await exchange.DisposeAsync();
            throw;
        }
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var guest in _guests) await guest.DisposeAsync();
        _folder.Dispose();
    }

    private static LabVmOptions Options(string name, string socket) => new()
    {
        Name = name,
        ExtraArguments = ["-chardev", $"socket,id=peer0,{socket}", "-device", "virtserialport,chardev=peer0,name=peer"],
    };

    private static async Task StartLoadAsync(LabVm guest, CancellationToken cancellationToken) =>
        // The port can be opened once only; a pipe that nobody writes to is a clock without a process; tee writes to its output first.
        (await guest.ExecAsync(
            "mount -o remount,sync /data; mkfifo /run/out /run/clock; (exec 3<>/dev/virtio-ports/peer 4<>/run/clock; "
            + "(while :; do cat <&3; sleep 0.1; done >>/data/received) & cat /run/out >&3 & "
            + $"n=0; while :; do n=$((n+1)); printf '{Records.Format(MarkOf(guest.Name))}' $n; read -t 0.016 tick <&4; done | tee /run/out >>/data/sent) </dev/null >/dev/null 2>&1 &",
            cancellationToken: cancellationToken)).EnsureSuccess();
}
