using System.Formats.Asn1;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using VirtBackup.Core;

namespace VirtBackup.Identity;

/// <summary>
/// Who a client certificate speaks for. <see cref="Serial"/> is the certificate's serial number; <see cref="KeyId"/>, the
/// first 16 bytes of SHA-256 of its SubjectPublicKeyInfo, outlives renewals that keep the key.
/// </summary>
/// <param name="Role">From the subject's OU, confirmed by the subject alternative name.</param>
/// <param name="Name"><c>[a-z0-9.-]{1,63}</c>.</param>
/// <param name="Serial">Sixteen bytes, as <see cref="CertificateAuthority"/> gives them.</param>
/// <param name="KeyId">Names the key pair.</param>
public sealed record PeerIdentity(PeerRole Role, string Name, Id16 Serial, Id16 KeyId)
{
    private const string UriPrefix = "urn:virtbackup:";
    private const string CommonNameOid = "2.5.4.3";
    private const string OrganizationalUnitOid = "2.5.4.11";
    private const string SubjectAlternativeNameOid = "2.5.29.17";

    /// <summary>The URI that a client certificate carries in its subject alternative name.</summary>
    public static Uri ToUri(PeerRole role, string name) => new($"{UriPrefix}{role.ToText()}:{name}");

    /// <summary>
    /// Reads the identity strictly: one OU that is a role, one CN, and a subject alternative name that is the one URI
    /// <c>urn:virtbackup:role:name</c> saying the same. It does not judge who issued the certificate: see <see cref="ChainPolicy"/>.
    /// </summary>
    /// <exception cref="FaultException"><see cref="FaultReason.Denied"/>: anything else.</exception>
    public static PeerIdentity FromCertificate(X509Certificate2 certificate)
    {
        ArgumentNullException.ThrowIfNull(certificate);
        try
        {
            var (commonName, unit) = ReadSubject(certificate.SubjectName);
            if (!PeerNames.TryParseRole(unit, out var role))
            {
                throw Denied("its organizational unit is not a role");
            }
            if (!PeerNames.IsName(commonName))
            {
                throw Denied("its common name is not a name of 1 to 63 characters of a-z, 0-9, '.' and '-'");
            }
            if (!string.Equals(ReadUri(certificate), $"{UriPrefix}{unit}:{commonName}", StringComparison.Ordinal))
            {
                throw Denied("its subject alternative name does not confirm its role and name");
            }
            return new PeerIdentity(role, commonName, ReadSerial(certificate), ReadKeyId(certificate));
        }
        catch (Exception broken) when (broken is CryptographicException or AsnContentException)
        {
            throw new FaultException(FaultReason.Denied, "The client certificate cannot be read.", broken);
        }
    }

    /// <summary>First 16 bytes of SHA-256 of the SubjectPublicKeyInfo.</summary>
    public static Id16 ReadKeyId(X509Certificate2 certificate)
    {
        ArgumentNullException.ThrowIfNull(certificate);
        return KeyIdOf(certificate.PublicKey.ExportSubjectPublicKeyInfo());
    }

    /// <summary>First 16 bytes of SHA-256 of an encoded SubjectPublicKeyInfo.</summary>
    public static Id16 KeyIdOf(ReadOnlySpan<byte> subjectPublicKeyInfo) => Id16.Read(SHA256.HashData(subjectPublicKeyInfo));

    internal static Id16 ReadSerial(X509Certificate2 certificate)
    {
        var serial = certificate.SerialNumberBytes.Span;
        return serial.Length == Id16.Size ? Id16.Read(serial) : throw Denied("its serial number does not have 16 bytes");
    }

    private static (string? CommonName, string? Unit) ReadSubject(X500DistinguishedName subject)
    {
        string? commonName = null;
        string? unit = null;
        foreach (var part in subject.EnumerateRelativeDistinguishedNames())
        {
            if (part.HasMultipleElements)
            {
                throw Denied("its subject has a part with several values");
            }
            switch (part.GetSingleElementType().Value)
            {
                case CommonNameOid when commonName is null:
                    commonName = part.GetSingleElementValue();
                    break;
                case OrganizationalUnitOid when unit is null:
                    unit = part.GetSingleElementValue();
                    break;
                case CommonNameOid or OrganizationalUnitOid:
                    throw Denied("its subject names more than one role or holder");
            }
        }
        return (commonName, unit);
    }

    /// <summary>RFC 5280 section 4.2.1.6: GeneralNames ::= SEQUENCE OF GeneralName; a URI is [6] IA5String.</summary>
    private static string ReadUri(X509Certificate2 certificate)
    {
        X509Extension? found = null;
        foreach (var extension in certificate.Extensions)
        {
            if (extension.Oid?.Value == SubjectAlternativeNameOid)
            {
                found = found is null ? extension : throw Denied("it has two subject alternative names");
            }
        }
        if (found is null)
        {
            throw Denied("it has no subject alternative name");
        }
        var reader = new AsnReader(found.RawData, AsnEncodingRules.DER);
        var names = reader.ReadSequence();
        reader.ThrowIfNotEmpty();
        var tag = new Asn1Tag(TagClass.ContextSpecific, 6);
        if (!names.HasData || names.PeekTag() != tag)
        {
            throw Denied("its subject alternative name is not a URI");
        }
        var uri = names.ReadCharacterString(UniversalTagNumber.IA5String, tag);
        return names.HasData ? throw Denied("its subject alternative name has several entries") : uri;
    }

    private static FaultException Denied(string why) =>
        new(FaultReason.Denied, $"The client certificate does not name one VirtBackup role and name: {why}.");
}
