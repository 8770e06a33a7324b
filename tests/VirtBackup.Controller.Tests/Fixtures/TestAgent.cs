using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Google.Protobuf;
using VirtBackup.Core;
using VirtBackup.Format.Keys;
using VirtBackup.Identity;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Controller.Tests.Fixtures;

/// <summary>An agent's side: its keys, its certificate, its one machine.</summary>
internal sealed class TestAgent
{
    private TestAgent(World world, string name, Id16? vmId = null)
    {
        World = world;
        Name = name;
        VmId = vmId ?? Id16.Create(SystemEntropy.Instance);
    }

    public World World { get; }

    public string Name { get; }

    public ECDsa TlsKey { get; } = ECDsa.Create(ECCurve.NamedCurves.nistP256);

    public ECDsa SigningKey { get; } = ECDsa.Create(ECCurve.NamedCurves.nistP256);

    public Id16 SigningKeyId => KeyId.Compute(SigningKey.ExportSubjectPublicKeyInfo());

    public Id16 VmId { get; }

    public string VmName => $"vm-of-{Name}";

    public X509Certificate2 Certificate { get; private set; } = null!;

    public Caller Caller => Caller.From(PeerIdentity.FromCertificate(Certificate));

    /// <param name="vmId">Of its machine; null: a new one.</param>
    public static async Task<TestAgent> EnrollAsync(World world, string name, string token, Id16? vmId = null)
    {
        var agent = new TestAgent(world, name, vmId);
        await agent.EnrollAsync(token);
        return agent;
    }

    public static TestAgent Unenrolled(World world, string name) => new(world, name);

    public EnrollRequest NewRequest(string token)
    {
        var signingRequest = SigningRequest.Create(TlsKey);
        byte[] proof = [.. "virtbackup/1 enroll"u8, .. System.Text.Encoding.UTF8.GetBytes(Name), .. signingRequest];
        return new EnrollRequest
        {
            JoinToken = token,
            AgentName = Name,
            CertificateSigningRequest = ByteString.CopyFrom(signingRequest),
            SigningPublicKey = ByteString.CopyFrom(SigningKey.ExportSubjectPublicKeyInfo()),
            SigningKeyProof = ByteString.CopyFrom(SigningKey.SignData(proof, HashAlgorithmName.SHA256)),
        };
    }

    public async Task EnrollAsync(string token)
    {
        var response = await World.Role.Enrollment.EnrollAsync(NewRequest(token), World.Token);
        TakeCertificate(response.CertificateChain.ToStringUtf8());
    }

    public void TakeCertificate(string pem)
    {
        using var certificate = X509Certificate2.CreateFromPem(pem);
        Certificate = certificate.CopyWithPrivateKey(TlsKey);
    }

    public Inventory NewInventory()
    {
        var machine = new VirtualMachine { VmId = VmId.ToString(), Name = VmName, Running = true };
        machine.Disks.Add(new VirtualDisk { DiskId = Id16.Parse("00000000000000000000000000000005").ToString(), Name = "vda", LengthBytes = 1 << 20, Format = "raw" });
        var inventory = new Inventory { HypervisorKind = "files", HostName = Name };
        inventory.VirtualMachines.Add(machine);
        return inventory;
    }

    /// <summary>Connects, reports the inventory, and leaves again.</summary>
    public async Task ReportInventoryAsync()
    {
        await using var control = await ControlStream.OpenAsync(this, Id16.Create(SystemEntropy.Instance));
        await control.SendAsync(new ConnectRequest { Inventory = NewInventory() });
        await control.GoodbyeAsync();
    }

    /// <summary>Reports without a stream of its own.</summary>
    public async Task ReportAsync(string jobId, ulong attempt, JobState state, Action<JobReport>? more = null)
    {
        var report = new JobReport { JobId = jobId, Attempt = attempt, State = state };
        more?.Invoke(report);
        await World.Role.Jobs.ReportAsync(Caller, report, World.Token);
    }
}

/// <summary>The agent's end of a control stream that the controller serves.</summary>
internal sealed class ControlStream : IAsyncDisposable
{
    private readonly MemoryDuplex<ConnectRequest, ConnectResponse> _duplex = new();
    private readonly CancellationTokenSource _broken = CancellationTokenSource.CreateLinkedTokenSource(World.Token);

    private ControlStream(TestAgent agent) => Served = agent.World.Role.Agents.ConnectAsync(agent.Caller, _duplex, _broken.Token);

    /// <summary>Completes as the controller's side does.</summary>
    public Task Served { get; }

    public static async Task<ControlStream> OpenAsync(TestAgent agent, Id16 bootId, AgentCapabilities? capabilities = null)
    {
        var stream = new ControlStream(agent);
        await stream.SendAsync(new ConnectRequest { Hello = new AgentHello { Version = "1", BootId = bootId.ToString(), Capabilities = capabilities } });
        Assert.Equal(ConnectResponse.MessageOneofCase.Hello, (await stream.ReceiveAsync()).MessageCase);
        return stream;
    }

    public static ControlStream OpenSilently(TestAgent agent) => new(agent);

    public ValueTask SendAsync(ConnectRequest message) => _duplex.Up.WriteAsync(message, World.Token);

    /// <exception cref="FaultException">The controller ended the stream instead.</exception>
    public async Task<ConnectResponse> ReceiveAsync()
    {
        var message = _duplex.Down.ReadAsync(World.Token).AsTask();
        if (await Task.WhenAny(message, Served) == Served && !message.IsCompleted)
        {
            await Served;
            Assert.Fail("The controller ended the stream without a message.");
        }
        return await message;
    }

    /// <summary>The first assignments that fulfil the condition.</summary>
    public async Task<Assignments> ReceiveAssignmentsAsync(Func<Assignments, bool> condition)
    {
        while (true)
        {
            if ((await ReceiveAsync()).Assignments is { } assignments && condition(assignments))
            {
                return assignments;
            }
        }
    }

    public async Task GoodbyeAsync()
    {
        await SendAsync(new ConnectRequest { Goodbye = new Goodbye() });
        await Served;
    }

    public async ValueTask DisposeAsync()
    {
        await _broken.CancelAsync();
        await Served.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _broken.Dispose();
    }
}
