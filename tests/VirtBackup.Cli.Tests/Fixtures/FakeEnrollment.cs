using System.Security.Cryptography;
using Google.Protobuf;
using Grpc.Core;
using VirtBackup.Core;
using VirtBackup.Identity;
using VirtBackup.Protocol.Agent.V1;
using VirtBackup.Protocol.Grpc;

namespace VirtBackup.Cli.Tests.Fixtures;

/// <summary>Enrolls whoever proves to have the signing key it names.</summary>
internal sealed class FakeEnrollment(CertificateAuthority authority) : AgentService.AgentServiceBase
{
    public EnrollRequest? Last { get; private set; }

    public FaultException? Refusal { get; set; }

    public override Task<EnrollResponse> Enroll(EnrollRequest request, ServerCallContext context)
    {
        Last = request;
        if (Refusal is { } fault)
        {
            throw FaultStatus.ToRpc(fault);
        }
        using var signer = ECDsa.Create();
        signer.ImportSubjectPublicKeyInfo(request.SigningPublicKey.Span, out _);
        byte[] message = [.. "virtbackup/1 enroll"u8, .. System.Text.Encoding.UTF8.GetBytes(request.AgentName), .. request.CertificateSigningRequest.Span];
        Assert.True(signer.VerifyData(message, request.SigningKeyProof.Span, HashAlgorithmName.SHA256, DSASignatureFormat.IeeeP1363FixedFieldConcatenation));
        using var certificate = authority.IssueClient(request.CertificateSigningRequest.Span, PeerRole.Agent, request.AgentName);
        return Task.FromResult(new EnrollResponse { AgentName = request.AgentName, CertificateChain = ByteString.CopyFromUtf8(certificate.ExportCertificatePem() + "\n") });
    }
}
